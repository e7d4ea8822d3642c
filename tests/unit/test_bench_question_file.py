"""Tests of question files: what is read, and that a wrong line is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hedgespec.bench.question_file import Question, by_category, read_questions
from hedgespec.errors import ConfigError


def _file(folder: Path, *lines: object) -> Path:
    path = folder / "questions.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines), encoding="utf-8")
    return path


def test_questions_keep_their_order_turns_and_category(tmp_path: Path) -> None:
    path = _file(
        tmp_path,
        {"question_id": 81, "category": "writing", "turns": ["Write.", "Again."], "reference": []},
        "",
        {"turns": ["What?"]},
    )
    first, second = Question("81", "writing", ("Write.", "Again.")), Question("3", "all", ("What?",))
    assert read_questions(path) == [first, second]
    assert by_category([first, second, first]) == {"writing": [first, first], "all": [second]}


def test_a_limit_counts_within_each_category(tmp_path: Path) -> None:
    lines = [{"category": c, "turns": [f"{c}{i}"]} for i in range(3) for c in ("a", "b")]
    assert [q.turns[0] for q in read_questions(_file(tmp_path, *lines), per_category=2)] == ["a0", "b0", "a1", "b1"]


@pytest.mark.parametrize(
    "line",
    ["{", "[]", "7", {"turns": []}, {"turns": "hello"}, {"turns": [" "]}, {"turns": [3]}, {"category": "a"},
     {"turns": ["a"], "category": 3}, {"turns": ["a"], "category": ""}],
)  # fmt: skip
def test_a_wrong_line_is_named(tmp_path: Path, line: object) -> None:
    with pytest.raises(ConfigError, match="line 2"):
        read_questions(_file(tmp_path, {"turns": ["fine"]}, line))


def test_files_without_questions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no questions"):
        read_questions(_file(tmp_path))
    with pytest.raises(ConfigError, match="cannot read"):
        read_questions(tmp_path / "none.jsonl")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot read"):
        read_questions(tmp_path / "binary")
