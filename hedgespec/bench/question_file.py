"""A question file holds the questions of a public benchmark: JSON lines with `turns` and `category`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hedgespec.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Question:
    """One conversation to have with the target. turns: the user's messages, in order; each is answered before the next."""

    question_id: str
    category: str
    turns: tuple[str, ...]


def read_questions(path: Path, per_category: int | None = None) -> list[Question]:
    """Return the questions of a file in its order, at most `per_category` of each category.

    Raises ConfigError, which names the line, for a file that cannot be read or has no questions.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
    questions = list(_first_of_each(_parsed(path, lines), per_category))
    if not questions:
        raise ConfigError(f"{path} has no questions: expected JSON lines with `turns` and `category`")
    return questions


def by_category(questions: list[Question]) -> dict[str, list[Question]]:
    """Group questions by category, in the order of the file."""
    groups: dict[str, list[Question]] = {}
    for question in questions:
        groups.setdefault(question.category, []).append(question)
    return groups


def _first_of_each(questions: Iterator[Question], per_category: int | None) -> Iterator[Question]:
    taken: dict[str, int] = {}
    for question in questions:
        taken[question.category] = taken.get(question.category, 0) + 1
        if per_category is None or taken[question.category] <= per_category:
            yield question


def _parsed(path: Path, lines: list[str]) -> Iterator[Question]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            yield _question(json.loads(line), number)
        except (ValueError, TypeError, KeyError) as error:
            raise ConfigError(f"{path}, line {number}: {error}") from error


def _question(content: Any, number: int) -> Question:
    if not isinstance(content, dict):
        raise TypeError(f"expected a JSON object, got {type(content).__name__}")
    turns = content.get("turns")
    if not isinstance(turns, list) or not turns or not all(isinstance(turn, str) and turn.strip() for turn in turns):
        raise TypeError("`turns` must be a list of one or more messages, each a string that is not empty")
    category = content.get("category", "all")
    if not isinstance(category, str) or not category:
        raise TypeError("`category` must be a string that is not empty")
    return Question(str(content.get("question_id", number)), category, tuple(turns))
