#!/usr/bin/env python3
"""TRL 1.9.0's PPO trainer (the last release with one) and Hone on the same model, sizes, epochs and
cores, one after the other; prints the times and the ratios as JSON. TRL runs in float32, Hone in float32
and with bfloat16 matrix products over float32 parameters (train.ppo.precision = "bf16").

  trl_ppo.py --model ../shared/data/stories260k/hf --bench build/bin/ppo_bench [--rounds 5]

The update is everything from the first minibatch of a rollout to the last optimizer step (policy and
critic, all epochs); rollout and scoring are printed beside it. Each round runs TRL, then Hone twice; medians
are compared. Run it on a quiet machine: a second busy job makes all of them several times slower
(`chrt -r 5` in front keeps other jobs away where root may).
"""
import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

PROMPTS, PROMPT_TOKENS, NEW_TOKENS, EPOCHS = 64, 16, 64, 4


def trl_seconds(model_dir, iterations, threads):
    """Seconds of (rollout and scoring, update) for each PPO iteration after the first."""
    import numpy as np
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
    from trl.experimental.ppo import PPOConfig, PPOTrainer
    from trl.experimental.ppo import ppo_trainer

    torch.set_num_threads(threads)
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    if tokenizer.pad_token is None:
        tokenizer.add_special_tokens({"pad_token": tokenizer.unk_token})
    tokenizer.padding_side = "left"
    load = lambda kind, **more: kind.from_pretrained(model_dir, dtype=torch.float32, **more)
    policy, reference = load(AutoModelForCausalLM), load(AutoModelForCausalLM)
    value, reward = (load(AutoModelForSequenceClassification, num_labels=1) for _ in range(2))
    for model in (policy, reference, value, reward):
        model.config.pad_token_id = tokenizer.pad_token_id
    rng = np.random.default_rng(0)
    prompts = rng.integers(3, policy.config.vocab_size, (PROMPTS, PROMPT_TOKENS)).tolist()
    dataset = Dataset.from_dict({"input_ids": prompts})
    with tempfile.TemporaryDirectory() as folder:
        config = PPOConfig(
            output_dir=folder, per_device_train_batch_size=PROMPTS, gradient_accumulation_steps=1,
            num_mini_batches=1, num_ppo_epochs=EPOCHS, total_episodes=PROMPTS * iterations,
            response_length=NEW_TOKENS, temperature=0.7, kl_coef=0.05, learning_rate=3e-6,
            local_rollout_forward_batch_size=PROMPTS, num_sample_generations=0, report_to=[],
            save_strategy="no", logging_strategy="no", use_cpu=True, bf16=False, fp16=False)
        trainer = PPOTrainer(args=config, processing_class=tokenizer, model=policy, ref_model=reference,
                             reward_model=reward, value_model=value, train_dataset=dataset,
                             eval_dataset=dataset)
        epochs, ends = [], []
        permutation = ppo_trainer.np.random.permutation

        def stamped(size):
            epochs.append(time.perf_counter())
            return permutation(size)

        ppo_trainer.np.random.permutation = stamped
        trainer.log = lambda *_, **__: ends.append(time.perf_counter())
        try:
            with contextlib.redirect_stdout(sys.stderr):
                trainer.train()
        finally:
            ppo_trainer.np.random.permutation = permutation
    starts = epochs[::EPOCHS]
    return [(starts[k] - ends[k - 1], ends[k] - starts[k]) for k in range(1, len(ends))]


def hone_seconds(bench, model_dir, threads, precision):
    environment = dict(os.environ, HONE_BENCH_MODEL=model_dir, OMP_NUM_THREADS=str(threads),
                       HONE_BENCH_PRECISION=precision)
    output = subprocess.run([bench, "--benchmark_format=json", "--benchmark_min_time=2"], env=environment,
                            check=True, capture_output=True, text=True).stdout
    result = json.loads(output)["benchmarks"][0]
    if result.get("error_occurred"):
        sys.exit(f"trl_ppo: {bench}: {result['error_message']}")
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="Hugging Face directory")
    parser.add_argument("--bench", required=True, help="Hone's ppo_bench")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    trl_update, trl_rest, hone = [], [], {"float32": [], "bf16": []}
    for _ in range(arguments.rounds):
        for rest, update in trl_seconds(arguments.model, 4, arguments.threads):
            trl_update.append(update)
            trl_rest.append(rest)
        for precision, runs in hone.items():
            runs.append(hone_seconds(arguments.bench, arguments.model, arguments.threads, precision))
    median = statistics.median
    result = {
        "sizes": {"prompts": PROMPTS, "prompt_tokens": PROMPT_TOKENS, "new_tokens": NEW_TOKENS, "epochs": EPOCHS},
        "threads": arguments.threads,
        "trl_update_seconds": median(trl_update),
        "trl_rollout_and_scoring_seconds": median(trl_rest),
    }
    trl_all = result["trl_update_seconds"] + result["trl_rollout_and_scoring_seconds"]
    for precision, runs in hone.items():
        update = median(h["update_seconds"] for h in runs)
        rest = median(h["rollout_seconds"] + h["scoring_seconds"] for h in runs)
        result[f"hone_{precision}"] = {
            "update_seconds": update,
            "rollout_and_scoring_seconds": rest,
            "update_ratio": result["trl_update_seconds"] / update,
            "iteration_ratio": trl_all / (update + rest),
        }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
