"""`hedgespec bench policies --prompts FILE` from the command line, on the zoo."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deployments.cli import app
from hedgespec.bench.questions.report import ALL
from hedgespec.errors import ConfigError
from tests.toy_questions import write_questions


def run(*options: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["bench", "policies", *options])
    if isinstance(result.exception, ConfigError):
        raise result.exception
    return result.exit_code, " ".join(result.output.replace("│", " ").split())


@pytest.mark.timeout(300)
def test_a_question_file_gives_a_report_and_a_resumed_run_the_same(tmp_path: Path) -> None:
    file, journal = write_questions(tmp_path / "questions.jsonl"), tmp_path / "journal.jsonl"
    options = ["--prompts", str(file), "--max-tokens", "6", "--temperature", "0", "--resume", str(journal)]
    options += [option for name in ("plain", "ngram", "prompt router") for option in ("--policy", name)]
    reports = []
    for name in ("first.json", "second.json"):
        code, output = run(*options, "--json", str(tmp_path / name))
        assert code == 0, output
        assert "greedy answers equal to plain decoding's: 10 of 10" in output
        reports.append(json.loads((tmp_path / name).read_text())["report"])
    assert reports[0] == reports[1]
    assert set(reports[0]["sections"]["0"]) == {"writing", "maths", ALL}
    assert len(reports[0]["conversations"]) == 9


def test_a_number_of_prompts_has_an_option_of_its_own() -> None:
    code, output = run("--prompts", "5")
    assert code == 2
    assert "--num-prompts 5" in output
    for command in (["bench", "decode"], ["bench", "overheads"], ["bench", "acceptance"]):
        result = CliRunner().invoke(app, [*command, "--prompts", "5"])
        assert result.exit_code == 2
        assert "--num-prompts" in result.output


@pytest.mark.parametrize("option", [["--full"], ["--domain", "sql"], ["--seeds", "2"]])
def test_options_for_the_zoos_prompts_are_refused_with_a_file(tmp_path: Path, option: list[str]) -> None:
    code, output = run("--prompts", str(write_questions(tmp_path / "questions.jsonl")), *option)
    assert code == 2
    assert "zoo's own prompts" in output


def test_options_for_a_file_are_refused_without_one(tmp_path: Path) -> None:
    for option in (["--tenant", "run"], ["--resume", str(tmp_path / "j")], ["--config", str(tmp_path / "c.yaml")]):
        code, output = run(*option)
        assert code == 2
        assert "--prompts FILE" in output


def test_a_file_that_holds_no_questions_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "questions.jsonl"
    path.write_text('{"turns": "no list"}\n')
    with pytest.raises(ConfigError, match="line 1"):
        run("--prompts", str(path))
    path.write_text('{"turns": ["a"], "question_id": 1}\n{"turns": ["b"], "question_id": 1}\n')
    with pytest.raises(ConfigError, match="must be unique"):
        run("--prompts", str(path))
