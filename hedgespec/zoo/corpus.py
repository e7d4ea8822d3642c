"""The zoo's text: documents of six domains, each assigned to training, validation or test."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import Literal

from hedgespec.zoo import sources
from hedgespec.zoo.generators import Exchange, arithmetic, json_api, sql
from hedgespec.zoo.sources import Source

Split = Literal["train", "validation", "test"]

_HELD_OUT = {0: "test", 1: "test", 2: "validation"}  # hash bucket of 40 -> split: 5 % test, 2.5 % validation
_FORMS = {"sql": "-- {}\n{}", "arithmetic": "Question: {}\nAnswer: {}", "json": "{}\n{}"}
"""generated domain -> how a question and its answer are written down"""

_FORM_FEED = "\f"


@dataclass(frozen=True, slots=True)
class Document:
    """A text of one domain.

    exchanges: questions and answers for chats about it; context: text that the first question needs before it
    """

    domain: str
    name: str
    text: str
    context: str = ""
    exchanges: tuple[Exchange, ...] = ()


def split_of(name: str) -> Split:
    """Assign a document to a split by its name alone, so that it is the same on every machine."""
    bucket = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") % 40
    return _HELD_OUT.get(bucket, "train")  # type: ignore[return-value]


def documents(domain: str, split: Split, *, seed: int, max_bytes: int) -> list[Document]:
    """Return documents of one domain and split in a seeded order, up to about `max_bytes` characters."""
    candidates = _generated(domain, split, seed) if domain in _FORMS else _found(domain, split, seed)
    chosen: list[Document] = []
    size = 0
    for document in candidates:
        chosen.append(document)
        size += len(document.text)
        if size >= max_bytes:
            break
    return chosen


def _generated(domain: str, split: Split, seed: int) -> Iterator[Document]:
    for number in range(seed * 1_000_000, (seed + 1) * 1_000_000):
        name = f"{domain} {number}"
        if split_of(name) != split:
            continue
        context = ""
        if domain == "sql":
            context, exchanges = sql.document(number)
        else:
            exchanges = (arithmetic if domain == "arithmetic" else json_api).document(number)
        parts = [_FORMS[domain].format(e.question, e.answer) for e in exchanges]
        text = "\n\n".join([context, *parts] if context else parts) + "\n"
        yield Document(domain, name, text, context, tuple(exchanges))


def _found(domain: str, split: Split, seed: int) -> Iterator[Document]:
    """Yield the texts found on this machine, each once, in a seeded order; Python's own come first."""
    seen: set[str] = set()
    for source in _ordered_sources(domain, seed):
        if split_of(source.name) != split:
            continue
        text = _clean(source.read())
        if text.strip() and text not in seen:
            seen.add(text)
            yield Document(domain, source.name, text, exchanges=_opening(domain, source.name, text))


@cache
def _ordered_sources(domain: str, seed: int) -> list[Source]:
    finders: dict[str, Callable[[], Iterable[Source]]] = {
        "python": sources.python_sources,
        "c": sources.c_headers,
        "prose": lambda: chain(sources.documentation_topics(), sources.docstrings()),
    }
    by_hash = sorted(finders[domain](), key=lambda s: hashlib.sha256(f"{seed} {s.name}".encode()).digest())
    return sorted(by_hash, key=lambda s: not s.name.startswith(("python3", "topic ", "include/numpy")))


def _clean(text: str) -> str:
    lines = (line.rstrip() for line in text.replace(_FORM_FEED, "").expandtabs(8).splitlines())
    return "\n".join(lines).strip("\n") + "\n"


def _opening(domain: str, name: str, text: str) -> tuple[Exchange, ...]:
    """Make one chat exchange from the beginning of a text."""
    if domain == "prose":
        title = name.split(" ", 1)[1]
        section = text[:3000].split("\n\n# ")[0].strip()
        return (Exchange(f"Explain {title}.", section),)
    kind = {"python": "Python file", "c": "C header"}[domain]
    lines = text.splitlines()
    cut = min(12, len(lines) // 2)
    rest = "\n".join(lines[cut : cut + 60])
    return (Exchange(f"Continue this {kind}:\n\n" + "\n".join(lines[:cut]), rest),)
