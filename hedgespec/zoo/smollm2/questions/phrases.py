"""Fill templates with random words: the one tool that all question generators share."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from random import Random

_A = re.compile(r"\b([Aa])(?= (?!uni|use|eu|one\b)[aeiou])", re.IGNORECASE)
"""an article before a vowel; "a university" and "a user" stay"""
_SLOT = re.compile(r"\{(\w+)\}")


def words(text: str) -> tuple[str, ...]:
    """Split a compact list of phrases, written with "|" between them and broken over lines anywhere."""
    return tuple(" ".join(phrase.split()) for phrase in text.split("|"))


def fill(rng: Random, template: str, lists: Mapping[str, Sequence[str]]) -> str:
    """Replace each `{name}` by a random phrase of `lists[name]`, itself filled, and make "a" "an" as needed."""

    def choose(match: re.Match[str]) -> str:
        return fill(rng, rng.choice(lists[match[1]]), lists)

    return _A.sub(r"\1n", _SLOT.sub(choose, template))


def capital(text: str) -> str:
    """Make the first letter upper case and leave the others alone."""
    return text[:1].upper() + text[1:]
