"""Made-up documents, and files of them."""

import json
import random

WORDS = {"digits": list("0123456789"), "lower": ["abba", "cede", "fig"], "upper": ["XYZ", "WVU", "T"]}


def sentences(words, count, seed, length=15):
    """Documents of `length` words each."""
    rng = random.Random(seed)
    return [" ".join(rng.choices(words, k=length)) for _ in range(count)]


def write_lines(path, texts):
    """A file of JSON lines, with its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
