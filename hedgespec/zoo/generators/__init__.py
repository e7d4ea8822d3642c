"""Seeded text generators of the zoo: every document is a function of its seed alone."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Exchange:
    """One question and its answer: a piece of a document, or one turn of a chat."""

    question: str
    answer: str
