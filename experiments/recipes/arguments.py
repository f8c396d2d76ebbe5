#!/usr/bin/env python3
"""Turns a folder of UKPConvArg1 (arguments.jsonl.gz, debates.tsv, votes.tsv.gz) into files that
`hone import` reads: which of two arguments on one side of a debate convinces more, by real raters.

  arguments.py --source convincing_arguments --output DIR

Written: texts.jsonl (prompt = the debate and the argument's first three words, group = the debate, so
that no debate spans splits) and votes.tsv (item, item, rater, outcome, same-person). With the debate
alone as the prompt there would be as few held-out prompts as held-out debates.
"""
import argparse
import csv
import gzip
import json
import os
import sys

PROMPT_WORDS = 3


def begin(topic, text):
    """The debate and the first words of an argument, and what is left of it."""
    words = text.split()
    if len(words) <= PROMPT_WORDS:
        return topic + "\n", text
    first = " ".join(words[:PROMPT_WORDS])
    return topic + "\n" + first, " " + " ".join(words[PROMPT_WORDS:])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", required=True)
    parser.add_argument("--output", required=True)
    arguments = parser.parse_args()
    at = lambda name: os.path.join(arguments.source, name)
    try:
        with open(at("debates.tsv"), encoding="utf-8") as file:
            debates = dict(line.rstrip("\n").split("\t") for line in file if "\t" in line)
        texts = [json.loads(line) for line in gzip.open(at("arguments.jsonl.gz"), "rt", encoding="utf-8")]
        votes = list(csv.DictReader(gzip.open(at("votes.tsv.gz"), "rt", encoding="utf-8"), delimiter="\t"))
    except (OSError, ValueError) as error:
        sys.exit(f"arguments: {arguments.source}: expected the UKPConvArg1 folder, got {error!r}")
    # Every seventh debate is held out, the next one validates.
    split = lambda debate: {0: "test", 1: "validation"}.get(int(debate) % 7, "train")
    item = lambda debate, text: f"{debate}/{text}"
    os.makedirs(arguments.output, exist_ok=True)
    with open(os.path.join(arguments.output, "texts.jsonl"), "w", encoding="utf-8") as file:
        for row in texts:
            debate = str(row["debate"])
            topic = debates.get(debate, debate).replace("-", " ").replace("_", ": ")
            prompt, rest = begin(topic, row["text"])
            file.write(json.dumps({"id": item(debate, row["id"]), "prompt": prompt, "text": rest,
                                   "group": "debate-" + debate, "split": split(debate),
                                   "source": "UKPConvArg1"}) + "\n")
    with open(os.path.join(arguments.output, "votes.tsv"), "w", encoding="utf-8") as file:
        for vote in votes:
            first, second = vote["pair"].split("_")
            debate = vote["debate"]
            file.write("\t".join([item(debate, first), item(debate, second), vote["worker"], vote["vote"], "same-person"]) + "\n")


if __name__ == "__main__":
    main()
