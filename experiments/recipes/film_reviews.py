#!/usr/bin/env python3
"""Turns the ratings inside vaderSentiment-3.3.2.tar.gz into files that `hone import` reads.

  film_reviews.py --source vaderSentiment-3.3.2.tar.gz --output DIR

Written to DIR:
  texts.jsonl            10,605 film-review snippets; group = block of 30 rated by the same people
  ratings.tsv            item, rater, value (-4..4); rater = one person within one block
  demonstrations.jsonl   snippets that people rated >= 1.5 on average: first 3 words, then the rest
  votes.tsv              sampled single comparisons: same-person (with pseudonym), across-people (none)

What the data is: position k of a snippet's list of ratings is one person for each block of 30
consecutive rows (residuals correlate inside blocks and not across). Rows are sorted by polarity, so
the split is by block: 15 % test, 5 % validation, the rest training; neither person nor text is
shared. Only numpy is needed.
"""
import argparse
import html
import io
import json
import os
import re
import sys
import tarfile

import numpy as np

BLOCK = 30  # rows rated by the same people
PROMPT_WORDS = 3
DEMONSTRATION_MEAN = 1.5
SPLIT_SEED, VOTE_SEED = 1234, 99
SPLIT_NAMES = ("train", "validation", "test")
# Votes of each kind written per split. Training itself uses every rating; these are for export,
# for baselines and for measuring.
VOTES = {"train": 20000, "validation": 3000, "test": 8000}


def members(path):
    """Files of the archive inside the archive, by base name."""
    try:
        with tarfile.open(path) as outer:
            inner = next(m for m in outer.getmembers() if m.name.endswith("hutto_ICWSM_2014.tar.gz"))
            with tarfile.open(fileobj=io.BytesIO(outer.extractfile(inner).read())) as archive:
                return {
                    os.path.basename(m.name): archive.extractfile(m).read()
                    for m in archive.getmembers()
                    if m.isfile() and "movieReviewSnippets" in m.name
                }
    except (OSError, StopIteration, tarfile.TarError) as error:
        sys.exit(f"film_reviews: {path}: expected vaderSentiment-3.3.2.tar.gz (scripts/quickstart fetches it), got {error!r}")


def clean(text):
    """The corpus wrote quotes as '' and dashes as runs of spaces; undo that, lower the case."""
    text = html.unescape(text).replace("''", '"').replace("\u2019", "'").replace("\u2013", "-")
    text = re.sub(r" {2,}", " - ", text.strip())
    return re.sub(r"\s+", " ", text).lower()


def rows(files, name):
    text = files[name].decode("utf-8-sig")
    return [line.rstrip("\r").split("\t") for line in text.split("\n") if line.strip()]


def load(path):
    """Texts, and each one's ratings in order of its raters."""
    files = members(path)
    try:
        ratings = {r[0]: json.loads(r[3]) for r in rows(files, "movieReviewSnippets_anonDataRatings.txt")}
        texts = rows(files, "movieReviewSnippets_GroundTruth.txt")
        return [clean(r[2]) for r in texts], [ratings[r[0]] for r in texts]
    except (LookupError, ValueError) as error:
        sys.exit(f"film_reviews: {path}: expected the film reviews of vaderSentiment 3.3.2, got {error!r}")


def split_of_blocks(blocks):
    order = np.random.default_rng(SPLIT_SEED).permutation(blocks)
    part = np.zeros(blocks, int)
    part[order[: int(0.15 * blocks)]] = 2
    part[order[int(0.15 * blocks) : int(0.20 * blocks)]] = 1
    return part


def normalised(text):
    return re.sub(r"\W+", " ", text).strip()


def raters(block, count):
    """Pseudonyms of a block's people, in order of their slots."""
    return [f"block-{block:03d}/person-{slot:02d}" for slot in range(count)]


def draw_pairs(sizes, rng):
    """For each size two different indices below it."""
    first, second = rng.integers(sizes), rng.integers(sizes - 1)
    return first, second + (second >= first)


def same_person_votes(items, ratings, block, count, rng):
    """(item, item, slot) arrays: two ratings of one person in one block."""
    starts = np.flatnonzero(np.r_[True, block[items][1:] != block[items][:-1]])
    sizes = np.diff(np.r_[starts, len(items)])
    starts, sizes = starts[sizes > 1], sizes[sizes > 1]
    pool = rng.integers(len(sizes), size=count)
    first, second = (items[starts[pool] + at] for at in draw_pairs(sizes[pool], rng))
    people = np.array([len(of) for of in ratings])
    return first, second, rng.integers(np.minimum(people[first], people[second]))


def across_people_votes(items, ratings, block, count, rng):
    """(item, item, slot, slot) arrays: one rating each of two people in two blocks."""
    first, second = (items[at] for at in draw_pairs(np.full(count, len(items)), rng))
    apart = block[first] != block[second]
    first, second = first[apart], second[apart]
    people = np.array([len(of) for of in ratings])
    return first, second, rng.integers(people[first]), rng.integers(people[second])


def outcome(a, b):
    return "a1" if a > b else "a2" if a < b else "equal"


def write_votes(file, items, ratings, names, block, count, rng):
    """Single comparisons: one person's two ratings in a block, and two people's across blocks."""
    for i, j, slot in zip(*(a.tolist() for a in same_person_votes(items, ratings, block, count, rng))):
        result = outcome(ratings[i][slot], ratings[j][slot])
        file.write(f"film-{i:05d}\tfilm-{j:05d}\t{names[i // BLOCK][slot]}\t{result}\tsame-person\n")
    for i, j, k, m in zip(*(a.tolist() for a in across_people_votes(items, ratings, block, count, rng))):
        file.write(f"film-{i:05d}\tfilm-{j:05d}\t\t{outcome(ratings[i][k], ratings[j][m])}\tacross-people\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", required=True)
    parser.add_argument("--output", required=True)
    arguments = parser.parse_args()
    texts, ratings = load(arguments.source)
    block = np.arange(len(texts)) // BLOCK
    part = split_of_blocks(block.max() + 1)[block]
    held_out = {normalised(texts[i]) for i in np.where(part > 0)[0]}
    keep = [i for i in range(len(texts)) if part[i] > 0 or normalised(texts[i]) not in held_out]

    os.makedirs(arguments.output, exist_ok=True)
    out = lambda name: open(os.path.join(arguments.output, name), "w", encoding="utf-8")
    encode = json.JSONEncoder(ensure_ascii=False).encode
    with out("texts.jsonl") as file:
        for i in keep:
            row = {"id": f"film-{i:05d}", "text": texts[i], "group": f"block-{block[i]:03d}",
                   "split": SPLIT_NAMES[part[i]], "source": "hutto-2014-film-reviews"}
            file.write(encode(row) + "\n")
    most = max(len(of) for of in ratings)
    names = [raters(b, most) for b in range(block.max() + 1)]
    with out("ratings.tsv") as file:
        for i in keep:
            lines = zip(names[block[i]], ratings[i])
            file.write("".join([f"film-{i:05d}\t{name}\t{value}\n" for name, value in lines]))
    with out("demonstrations.jsonl") as file:
        for i in keep:
            words = texts[i].split()
            if sum(ratings[i]) < DEMONSTRATION_MEAN * len(ratings[i]) or len(words) <= PROMPT_WORDS:
                continue
            prompt = " ".join(words[:PROMPT_WORDS])
            row = {"id": f"demo-{i:05d}", "prompt": prompt, "completion": texts[i][len(prompt):],
                   "group": f"block-{block[i]:03d}", "split": SPLIT_NAMES[part[i]]}
            file.write(encode(row) + "\n")
    rng = np.random.default_rng(VOTE_SEED)
    with out("votes.tsv") as file:
        for k, name in enumerate(SPLIT_NAMES):
            write_votes(file, np.array([i for i in keep if part[i] == k]), ratings, names, block, VOTES[name], rng)


if __name__ == "__main__":
    main()
