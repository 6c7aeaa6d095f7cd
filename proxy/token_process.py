"""The program that proxy/tokens.py keeps beside a process: lines with a number and texts come in, as JSON;
lines with that number, and how many tokens each of the texts is, go out. It ends with its input."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from importlib import import_module

VOCABULARY = "o200k_base"
# The tokenizer refuses a text of more than 200,000 tokens; a character has at most four, one for each byte.
PIECE_CHARACTERS = 40_000


def main() -> None:
    tokenizer = import_module("bpe_openai").get_encoding(VOCABULARY)
    for line in sys.stdin.buffer:
        number, *texts = json.loads(line)
        counts = (sum(len(tokenizer.encode_ordinary(each)) for each in pieces(text)) for text in texts)
        sys.stdout.write(f"{number} {' '.join(map(str, counts))}\n")
        sys.stdout.flush()


def pieces(text: str) -> Iterator[str]:
    """The text in pieces that end where a word does, if one does: no token goes on over it."""
    start = 0
    while len(text) - start > PIECE_CHARACTERS:
        space = text.rfind(" ", start + 1, start + PIECE_CHARACTERS)
        end = space if space > 0 else start + PIECE_CHARACTERS
        yield text[start:end]
        start = end
    yield text[start:]


if __name__ == "__main__":
    main()
