#!/usr/bin/env python3
"""transformers.generate and Hone on the same model, prompts, lengths and cores, one after the other;
prints both times, the ratio and Hone's distance from the machine's limits as JSON. On a GPU both compute in
bfloat16 (transformers: weights too).

  transformers_generate.py --model ../shared/data/stories260k/hf --bench build/bin/generation_bench \\
      --output experiments/results/transformers_generate.json
  transformers_generate.py --model ../shared/data/stories260k/hf --bench build/bin/generation_bench --device cuda \\
      --random 1024,24,16,8,2816,32000 --prompts 512 --prompt-tokens 128

--random H,L,heads,kv_heads,F,V: a Llama of those sizes with random weights, and --model's tokenizer.

64 prompts of 16 tokens, 128 new tokens each (no end token counts), sampled at temperature 1 from all of
the vocabulary. Each round runs transformers, then Hone; medians are compared. Before that, greedy
continuations of both are compared token by token. Run it on a quiet machine: a second busy job makes
both several times slower.
"""
import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time

from random_llama import add_model_options, model_on_disk


def prompts_of(arguments, vocab_size):
    return [[3 + (p * 31 + t * 17) % (vocab_size - 3) for t in range(arguments.prompt_tokens)]
            for p in range(arguments.prompts)]


def load(arguments):
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(arguments.threads)
    dtype = torch.bfloat16 if arguments.device == "cuda" else torch.float32
    model = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=dtype).eval().to(arguments.device)
    model.generation_config.eos_token_id = None  # every response has its full length
    ids = torch.tensor(prompts_of(arguments, model.config.vocab_size), device=arguments.device)
    return torch, model, ids


def transformers_tokens(torch, model, ids, new_tokens, sample):
    with torch.inference_mode():
        out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=new_tokens, do_sample=sample,
                             temperature=1.0 if sample else None, top_k=0 if sample else None, top_p=None,
                             pad_token_id=0)
    assert out.shape[1] == ids.shape[1] + new_tokens
    return out[:, ids.shape[1]:].tolist()


def hone_bench(arguments):
    sizes = {"PROMPTS": arguments.prompts, "PROMPT_TOKENS": arguments.prompt_tokens, "NEW_TOKENS": arguments.new_tokens}
    environment = dict(os.environ, HONE_BENCH_MODEL=arguments.model, OMP_NUM_THREADS=str(arguments.threads),
                       HONE_BENCH_DEVICE=arguments.device, HONE_BENCH_ROWS=str(arguments.prompts),
                       **{"HONE_BENCH_" + name: str(value) for name, value in sizes.items()})
    output = subprocess.run([arguments.bench, "--benchmark_filter=sampled:1/fast:1", "--benchmark_format=json",
                             "--benchmark_min_time=1"], env=environment, check=True, capture_output=True, text=True).stdout
    result = json.loads(output)["benchmarks"][0]
    if result.get("error_occurred"):
        sys.exit(f"transformers_generate: {arguments.bench}: {result['error_message']}")
    return result


def same_greedy_tokens(arguments, torch, model, ids):
    """Share of tokens up to the first difference of each response; ties and rounding may end it early."""
    hone = os.path.join(os.path.dirname(arguments.bench), "hone")
    lines = "".join(json.dumps({"tokens": row}) + "\n" for row in ids.tolist())
    out = subprocess.run([hone, "generate", "--model", arguments.model, "--prompts", "-", "--temperature", "0",
                          "--max-new-tokens", str(arguments.new_tokens)], input=lines, check=True, capture_output=True,
                         text=True).stdout
    same = total = 0
    for line, want in zip(out.splitlines(), transformers_tokens(torch, model, ids, arguments.new_tokens, False)):
        got = json.loads(line)["tokens"]  # ends at an end token
        total += len(got)
        same += next((i for i, (a, b) in enumerate(zip(got, want)) if a != b), len(got))
    return same / total


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="Hugging Face directory")
    parser.add_argument("--bench", required=True, help="Hone's generation_bench; hone is beside it")
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--prompt-tokens", type=int, default=16)
    parser.add_argument("--new-tokens", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--output", help="JSON file")
    add_model_options(parser)
    arguments = parser.parse_args()
    with model_on_disk(arguments):
        compare(arguments)


def compare(arguments):
    torch, model, ids = load(arguments)
    # Roundings of bfloat16 part two continuations soon.
    agreement = same_greedy_tokens(arguments, torch, model, ids) if arguments.device == "cpu" else None
    seconds, hone = [], []
    for _ in range(arguments.rounds):
        start = time.perf_counter()
        transformers_tokens(torch, model, ids, arguments.new_tokens, True)
        seconds.append(time.perf_counter() - start)
        hone.append(hone_bench(arguments))
    median = statistics.median
    best = min(hone, key=lambda h: h["real_time"])
    own = median(h["real_time"] for h in hone) / 1000
    tokens = arguments.prompts * arguments.new_tokens
    commit = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True,
                            cwd=os.path.dirname(os.path.abspath(__file__))).stdout.strip()
    import transformers
    result = {
        "command": "experiments/bench/peers/transformers_generate.py " + " ".join(sys.argv[1:]),
        "commit": commit,
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
        "transformers": transformers.__version__,
        "torch": torch.__version__,
        "threads": arguments.threads,
        "device": torch.cuda.get_device_name() if arguments.device == "cuda" else "cpu",
        "model": arguments.random or arguments.model,
        "sizes": {"prompts": arguments.prompts, "prompt_tokens": arguments.prompt_tokens,
                  "new_tokens": arguments.new_tokens},
        "same_greedy_tokens": agreement,
        "transformers_seconds": median(seconds),
        "transformers_seconds_best": min(seconds),
        "hone_seconds": own,
        "hone_seconds_best": best["real_time"] / 1000,
        "ratio": median(seconds) / own,
        "ratio_of_bests": min(seconds) / (best["real_time"] / 1000),
        "hone_tokens_per_second": tokens / own,
        "hone_limits_best_round": {name: best[name] for name in (
            "tokens_per_second", "gflops", "of_gemm_peak", "of_bandwidth", "gemm_peak_gflops", "bandwidth_gbytes")},
    }
    text = json.dumps(result, indent=1)
    print(text)
    if arguments.output:
        with open(arguments.output, "w", encoding="utf-8") as file:
            file.write(text + "\n")


if __name__ == "__main__":
    main()
