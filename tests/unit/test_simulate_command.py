"""`hedgespec simulate` from the command line, on a small random recording."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deployments.cli import app
from hedgespec.bench.simulation.goals import NEEDED, Goal
from hedgespec.bench.simulation.studies import STUDIES
from hedgespec.bench.simulation.studies.study import Study
from tests.simulated import random_recording


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("simulate") / "table.npz"
    random_recording(8, num_drafters=3, num_tokens=24, seed=3).save(path)
    return path


def test_all_studies_run_and_end_with_the_goals(table: Path, tmp_path: Path) -> None:
    """Every study has rows with the same columns, and any parser can read the JSON."""
    out = tmp_path / "all.json"
    result = CliRunner().invoke(
        app, ["simulate", "study", "all", "--table", str(table), "--json", str(out), "--runs-each", "2"]
    )
    assert result.exit_code == 0, result.output
    assert "goals of the learner" in result.output
    report = json.loads(out.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))["report"]
    assert set(report) == set(STUDIES) >= set(NEEDED)
    for study in report.values():
        assert len(study["rows"]) > 1
        assert all(list(row) == list(study["rows"][0]) for row in study["rows"])


def test_an_unknown_study_is_refused_with_the_names_there_are(table: Path) -> None:
    result = CliRunner().invoke(app, ["simulate", "study", "nonsense", "--table", str(table)])
    assert result.exit_code == 2
    assert "policies" in result.output


def test_a_goal_is_missed_on_the_wrong_side_of_its_limit_only() -> None:
    assert [Goal("", 0.9, value).verdict for value in (0.91, 0.9, 0.89)] == ["PASS", "PASS", "MISS"]
    assert [Goal("", 0.9, value, False).verdict for value in (0.91, 0.9, 0.89)] == ["MISS", "PASS", "PASS"]
    assert Goal("", 0.9, None).verdict == "UNKNOWN"


def test_a_study_gives_the_value_of_one_row() -> None:
    study = Study("", "", [{"a": 1, "b": 2.0}, {"a": 2, "b": 3.0}])
    assert study.value("b", a=2) == 3.0
    with pytest.raises(ValueError, match="unpack"):
        study.value("b")
