#!/usr/bin/env python3
"""TRL 1.9.0's PPO trainer (the last release with one) and Hone on the same model, sizes, epochs and
cores, one after the other; prints the times and the ratios as JSON. On the CPU TRL runs in float32, Hone in
float32 and with bfloat16 matrix products over float32 parameters (train.ppo.precision = "bf16"). On a GPU
both run in bfloat16 over float32 parameters (TRL: bf16=True, attention by torch's SDPA).

  trl_ppo.py --model ../shared/data/stories260k/hf --bench build/bin/ppo_bench [--rounds 5]
  trl_ppo.py --model ../shared/data/stories260k/hf --bench build/bin/ppo_bench --device cuda \
             --random 1024,24,16,8,2816,32000 --prompts 256 --prompt-tokens 256 --new-tokens 256 --epochs 1 --minibatches 4

--random H,L,heads,kv_heads,F,V: a Llama of those sizes with random weights, and --model's tokenizer.

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

from random_llama import add_model_options, model_on_disk

SIZES = {"prompts": 64, "prompt_tokens": 16, "new_tokens": 64, "epochs": 4, "minibatches": 1}


def trl_seconds(model_dir, iterations, arguments):
    """Seconds of (rollout and scoring, update) for each PPO iteration after the first."""
    import numpy as np
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
    from trl.experimental.ppo import PPOConfig, PPOTrainer
    from trl.experimental.ppo import ppo_trainer

    torch.set_num_threads(arguments.threads)
    cuda = arguments.device == "cuda"
    size = arguments.prompts // arguments.minibatches
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
    prompts = rng.integers(3, policy.config.vocab_size, (arguments.prompts, arguments.prompt_tokens)).tolist()
    dataset = Dataset.from_dict({"input_ids": prompts})
    with tempfile.TemporaryDirectory() as folder:
        config = PPOConfig(
            output_dir=folder, per_device_train_batch_size=size, gradient_accumulation_steps=arguments.minibatches,
            num_mini_batches=arguments.minibatches, num_ppo_epochs=arguments.epochs,
            total_episodes=arguments.prompts * iterations,
            response_length=arguments.new_tokens, temperature=0.7, kl_coef=0.05, learning_rate=3e-6,
            local_rollout_forward_batch_size=size, num_sample_generations=0, report_to=[],
            save_strategy="no", logging_strategy="no", use_cpu=not cuda, bf16=cuda, fp16=False)
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
    starts = epochs[::arguments.epochs]
    return [(starts[k] - ends[k - 1], ends[k] - starts[k]) for k in range(1, len(ends))]


def hone_seconds(bench, model_dir, arguments, precision):
    environment = dict(os.environ, HONE_BENCH_MODEL=model_dir, OMP_NUM_THREADS=str(arguments.threads),
                       HONE_BENCH_PRECISION=precision, HONE_BENCH_DEVICE=arguments.device)
    for name in SIZES:
        environment["HONE_BENCH_" + name.upper()] = str(getattr(arguments, name))
    if arguments.device == "cuda":  # as many tokens at once as TRL's padded minibatch has
        environment["HONE_BENCH_MICRO_TOKENS"] = str(
            arguments.prompts // arguments.minibatches * (arguments.prompt_tokens + arguments.new_tokens))
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
    add_model_options(parser)
    for name, size in SIZES.items():
        parser.add_argument("--" + name.replace("_", "-"), type=int, default=size)
    arguments = parser.parse_args()
    with model_on_disk(arguments):
        compare(arguments)


def compare(arguments):
    trl_update, trl_rest = [], []
    hone = {precision: [] for precision in (("bf16",) if arguments.device == "cuda" else ("float32", "bf16"))}
    for _ in range(arguments.rounds):
        for rest, update in trl_seconds(arguments.model, 4, arguments):
            trl_update.append(update)
            trl_rest.append(rest)
        for precision, runs in hone.items():
            runs.append(hone_seconds(arguments.bench, arguments.model, arguments, precision))
    median = statistics.median
    result = {
        "sizes": {name: getattr(arguments, name) for name in SIZES},
        "model": arguments.random or arguments.model,
        "device": arguments.device,
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
