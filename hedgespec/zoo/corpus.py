"""The zoo's text: six domains of documents, split into training, validation and test by document."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import Literal

from hedgespec.zoo import DOMAINS, sources
from hedgespec.zoo.generators import Exchange, arithmetic, json_api, sql

Split = Literal["train", "validation", "test"]

_HELD_OUT = {0: "test", 1: "test", 2: "validation"}  # of 40: 5 % test, 2.5 % validation
_GENERATED = ("sql", "arithmetic", "json")
_FORM_FEED = "\f"


@dataclass(frozen=True, slots=True)
class Document:
    """A text of one domain; `exchanges` are what a chat about it would say, after `context` where one is needed."""

    domain: str
    name: str
    text: str
    context: str = ""
    exchanges: tuple[Exchange, ...] = ()


def split_of(name: str) -> Split:
    """Assign a document to a split by its name alone, so that the text added by another machine moves nothing."""
    bucket = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") % 40
    return _HELD_OUT.get(bucket, "train")  # type: ignore[return-value]


def documents(domain: str, split: Split, *, seed: int, max_bytes: int) -> list[Document]:
    """Return documents of one domain and split in a seeded order, about `max_bytes` of text or all that there is."""
    candidates = _generated(domain, seed) if domain in _GENERATED else _found(domain, seed)
    chosen: list[Document] = []
    size = 0
    for document in candidates:
        if size >= max_bytes:
            break
        if split_of(document.name) == split:
            chosen.append(document)
            size += len(document.text)
    return chosen


def _generated(domain: str, seed: int) -> Iterator[Document]:
    for number in range(seed * 1_000_000, (seed + 1) * 1_000_000):
        name = f"{domain} {number}"
        if domain == "sql":
            schema, pairs = sql.document(number)
            yield Document(domain, name, sql.as_text(schema, pairs), schema, tuple(pairs))
        elif domain == "arithmetic":
            problems = arithmetic.document(number)
            yield Document(domain, name, arithmetic.as_text(problems), "", tuple(problems))
        else:
            exchanges = json_api.document(number)
            yield Document(domain, name, json_api.as_text(exchanges), "", tuple(exchanges))


@cache
def _found(domain: str, seed: int) -> list[Document]:
    found: Iterable[tuple[str, str]] = {
        "python": sources.python_sources,
        "c": sources.c_headers,
        "prose": lambda: chain(sources.documentation_topics(), sources.docstrings()),
    }[domain]()
    made = {text: Document(domain, name, text, exchanges=_opening(domain, name, text)) for name, text in _clean(found)}
    ordered = sorted(made.values(), key=lambda d: hashlib.sha256(f"{seed} {d.name}".encode()).digest())
    return [d for d in ordered if _is_own(d)] + [d for d in ordered if not _is_own(d)]


def _is_own(document: Document) -> bool:
    """Whether the text is Python's own; what else the machine has only fills up."""
    return document.domain == "python" or document.name.startswith(("python3", "topic ", "include/numpy"))


def _clean(found: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    for name, text in found:
        lines = (line.rstrip() for line in text.replace(_FORM_FEED, "").expandtabs(8).splitlines())
        yield name, "\n".join(lines).strip("\n") + "\n"


def _opening(domain: str, name: str, text: str) -> tuple[Exchange, ...]:
    """Turn the beginning of a text into one chat exchange."""
    if domain == "prose":
        title = name.split(" ", 1)[1]
        section = text[:3000].split("\n\n# ")[0].strip()
        return (Exchange(f"Explain {title}.", section),)
    kind = {"python": "Python file", "c": "C header"}[domain]
    lines = text.splitlines()
    cut = min(12, len(lines) // 2)
    rest = "\n".join(lines[cut : cut + 60])
    return (Exchange(f"Continue this {kind}:\n\n" + "\n".join(lines[:cut]), rest),)


__all__ = ["DOMAINS", "Document", "Split", "documents", "split_of"]
