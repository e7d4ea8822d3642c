"""Draw different user messages of a domain, reproducibly, with the held-out ones kept apart by a hash of their text."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from random import Random
from typing import Literal

from hedgespec.errors import ConfigError
from hedgespec.zoo.smollm2.questions import arithmetic, code, json_tools, passages, prose, qa, sql, translation

QuestionSplit = Literal["train", "test"]
Draw = Callable[[Random, QuestionSplit], str]

_DRAWS: dict[str, Draw] = {
    "code": code.draw,
    "sql": sql.draw,
    "arithmetic": arithmetic.draw,
    "json": json_tools.draw,
    "prose": prose.draw,
    "qa": qa.draw,
    "translation": translation.draw,
    "documents": passages.draw,
}
_TRIES = 60  # draws per wanted message: 15 % of them are for the test split, and some repeat


def split_of(message: str) -> QuestionSplit:
    """Assign a message to a split by its text alone: about 15 % to the test split, the same on every machine."""
    bucket = int.from_bytes(hashlib.sha256(message.encode()).digest()[:4], "big") % 100
    return "test" if bucket < 15 else "train"


def questions(domain: str, split: QuestionSplit, count: int, seed: int = 0) -> list[str]:
    """Return `count` different user messages of one domain and split.

    They depend on (domain, split, seed) only, and a smaller `count` gives the beginning of the same list; the few
    messages of `code` and `documents` that quote Python's own library also depend on the Python version.
    Raises ConfigError for an unknown domain or split, and for more messages than the domain's generator can make.
    """
    if domain not in _DRAWS:
        raise ConfigError(f"No question domain named {domain!r}. Available: {', '.join(_DRAWS)}.")
    if split not in ("train", "test"):
        raise ConfigError(f"No question split named {split!r}. Available: train, test.")
    chosen: dict[str, None] = {}
    for number in range(_TRIES * count):
        if len(chosen) == count:
            break
        message = _DRAWS[domain](Random(f"{domain}-{split}-{seed}-{number}"), split).strip()
        if split_of(message) == split:
            chosen[message] = None
    if len(chosen) < count:
        raise ConfigError(f"The domain {domain!r} gave {len(chosen)} {split} messages of {count}: ask for fewer.")
    return list(chosen)
