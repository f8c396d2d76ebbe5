#!/usr/bin/env python3
"""VADER 3.3.2's rule-based sentiment as a judge: JSONL {"text": ...} on standard input, one
{"score": compound in [-1, 1]} a line on standard output. Training never sees it.

  vader_judge.py --source vaderSentiment-3.3.2.tar.gz < texts.jsonl > scores.jsonl
"""
import argparse
import importlib.util
import json
import os
import sys
import tarfile
import tempfile
import types

FILES = ("vaderSentiment.py", "vader_lexicon.txt", "emoji_utf8_lexicon.txt")


def analyzer(source):
    with tempfile.TemporaryDirectory() as folder:
        try:
            with tarfile.open(source) as archive:
                for member in archive.getmembers():
                    name = os.path.basename(member.name)
                    if member.isfile() and "/vaderSentiment/" in member.name and name in FILES:
                        with open(os.path.join(folder, name), "wb") as file:
                            file.write(archive.extractfile(member).read())
        except (OSError, tarfile.TarError) as error:
            sys.exit(f"vader_judge: {source}: expected vaderSentiment-3.3.2.tar.gz, got {error}")
        # The module imports `requests` for its demonstration only.
        sys.modules.setdefault("requests", types.ModuleType("requests"))
        spec = importlib.util.spec_from_file_location("vader", os.path.join(folder, FILES[0]))
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.SentimentIntensityAnalyzer()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", required=True)
    vader = analyzer(parser.parse_args().source)
    for line in sys.stdin:
        text = json.loads(line)["text"]
        sys.stdout.write(json.dumps({"score": vader.polarity_scores(text)["compound"]}) + "\n")


if __name__ == "__main__":
    main()
