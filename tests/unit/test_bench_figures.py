"""`hedgespec bench figures` draws pictures from small made reports."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from deployments.cli import app
from hedgespec.bench.figures.gallery import OF_STUDIES, draw_figures
from hedgespec.bench.figures.looks import MAIN, in_order, look
from hedgespec.bench.policies import ALL
from hedgespec.bench.questions.report import ALL as ALL_QUESTIONS
from hedgespec.bench.simulation.studies import STUDIES
from hedgespec.bench.simulation.workbench import Workbench
from hedgespec.errors import ConfigError
from tests.simulated import random_recording

POLICIES = ("plain", "generic", "best expert", "prompt router", "tuned ucb", "adaptive rounds", "merged trees")
CPU = "2 x Some Processor"
SMALLEST_BYTES = 20_000
"""An empty picture of this size is far below."""


def report(content: Any, **settings: Any) -> dict[str, Any]:
    return {"created": "2026-01-01T00:00:00+00:00", "machine": {"cpu": CPU}, "settings": settings, "report": content}


def policies_report(shift: float, accuracy: float) -> dict[str, Any]:
    def rows(first: float) -> dict[str, Any]:
        values = {name: first + 0.1 * index for index, name in enumerate(POLICIES)}
        return {n: {"mean_accepted_tokens": {"value": v, "low": v - 0.1, "high": v + 0.1}} for n, v in values.items()}

    temperatures = {t: {d: rows(1.0 + shift) for d in ("python", "c", ALL)} for t in ("0", "1")}
    return report({"max_tokens": 8, "temperatures": temperatures}, router_accuracy=accuracy)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The three inputs; the studies are real ones of a random recording, but the slow one."""
    folder = tmp_path_factory.mktemp("reports")
    bench = Workbench(random_recording(8, num_tokens=24, seed=3), runs_each=2)
    studies = {}
    for name in ("policies", "weights", "shifts"):
        made = STUDIES[name](bench)
        studies[name] = asdict(made)
    sizes = [{"drafters": n, "normalhedge": 0.99 - n / 1000, "tuned ucb": 0.97 - n / 500} for n in (2, 4, 8)]
    studies["pool_size"] = {"rows": sizes}
    cells = {
        name: {key: {"value": 0.9} for key in ("mean_accepted_tokens", "share_of_best_fixed")} for name in POLICIES
    }
    trace = {"picked": True, "question_id": "1", "category": "maths", "turn": 0, "temperature": 0.0, "num_tokens": 9}
    on_questions = {
        "learned": "adaptive rounds",
        "sections": {"0": {category: {"cells": cells} for category in ("maths", "writing", ALL_QUESTIONS)}},
        "weights": {**trace, "positions": [0, 4], "weights": {"near": [0.5, 0.9], "far": [0.5, 0.1]}},
    }
    contents = {
        "questions": report(on_questions),
        "policies": policies_report(0.0, 0.98),
        "rewrite": policies_report(-0.05, 0.2),
        "studies": report(studies),
    }
    for name, content in contents.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return {name: folder / f"{name}.json" for name in contents}


@pytest.fixture(scope="module")
def drawn(files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("figures") / "new"
    options = [part for name, path in files.items() for part in (f"--{name}", str(path))]
    result = CliRunner().invoke(app, ["bench", "figures", *options, "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert result.output.count("Wrote") == 16
    return out


def numbers(drawn: Path, name: str) -> dict[str, Any]:
    return dict(json.loads((drawn / f"{name}.json").read_text()))


@pytest.mark.parametrize(
    "name", ["accepted_tokens", "regret", "pool_size", "weights", "rewrite", "shifts", "questions"]
)
def test_every_picture_is_drawn_wide_enough_for_a_readme_with_its_numbers_beside_it(drawn: Path, name: str) -> None:
    """Pictures are 1600 pixels wide and not empty, and their data files say which processor the numbers come from."""
    image = (drawn / f"{name}.png").read_bytes()
    assert image.startswith(b"\x89PNG")
    assert int.from_bytes(image[16:20], "big") == 1600
    assert len(image) > SMALLEST_BYTES
    content = numbers(drawn, name)
    assert content["cpu"] == CPU
    assert content["unit"]
    assert content["title"]


def test_the_data_files_hold_what_was_measured(files: dict[str, Path], drawn: Path) -> None:
    """The same numbers as in the inputs, under the same names."""
    studies = json.loads(files["studies"].read_text())["report"]
    accepted = numbers(drawn, "accepted_tokens")["temperatures"]
    assert accepted["1"]["python"]["generic"] == {"value": 1.1, "low": 1.0, "high": 1.2000000000000002}
    assert set(accepted["0"]) == {"python", "c", ALL}
    curves = numbers(drawn, "regret")["curves"]
    assert {"random", "ucbspec", "normalhedge rounds", "adaptive rounds"} <= set(curves)
    assert all(curve == studies["policies"]["figure"][name] for name, curve in curves.items())
    assert numbers(drawn, "pool_size")["drafters"] == [2, 4, 8]
    assert numbers(drawn, "pool_size")["curves"] == {
        name: [row[name] for row in studies["pool_size"]["rows"]] for name in ("normalhedge", "tuned ucb")
    }
    weights = numbers(drawn, "weights")
    assert weights["learners"]["adaptive"]["d1"] == studies["weights"]["figure"]["adaptive d1"]
    assert [part["end"] for part in weights["parts"]] == [8, 16, 24]
    assert [row["excess"] for row in numbers(drawn, "shifts")["rows"]] == [
        r["excess"] for r in studies["shifts"]["rows"]
    ]
    rewrite = numbers(drawn, "rewrite")
    assert rewrite["router_accuracy"] == {"usual prompts": 0.98, "rewritten prompts": 0.2}
    moved = rewrite["temperatures"]["0"]["prompt router"]
    assert moved["usual prompts"]["value"] - moved["rewritten prompts"]["value"] == pytest.approx(0.05)


def test_the_pictures_of_questions_hold_what_was_measured(drawn: Path) -> None:
    cell = numbers(drawn, "questions")["temperatures"]["0"]["maths"]["generic"]
    assert cell == {"tokens": 0.9, "share": 0.9}
    assert numbers(drawn, "questions")["title"].endswith("90%")
    weights = numbers(drawn, "question_weights")
    assert (weights["positions"], weights["weights"]["near"]) == ([0, 4], [0.5, 0.9])
    assert "maths, turn 1, temperature 0" in weights["title"]


def test_only_what_was_given_is_drawn(files: dict[str, Path], tmp_path: Path) -> None:
    """One study alone, as `simulate study shifts --json` writes it, gives one picture."""
    content = json.loads(files["studies"].read_text())
    content["report"] = {"shifts": content["report"]["shifts"]}
    (tmp_path / "one.json").write_text(json.dumps(content))
    written = draw_figures(None, None, tmp_path / "one.json", tmp_path / "out")
    assert [path.name for path in written] == ["shifts.png", "shifts.json"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["shifts.json", "shifts.png"]


@pytest.mark.parametrize(
    ("name", "keys", "said"),
    [
        ("policies", ("report", "temperatures"), "temperatures"),
        ("policies", ("report", "temperatures", "0", "c", "generic", "mean_accepted_tokens", "low"), "low"),
        ("policies", ("machine", "cpu"), "cpu"),
        ("studies", ("report",), "report"),
        ("studies", ("report", "policies", "figure"), "figure"),
        ("studies", ("report", "shifts", "rows", 0, "excess"), "excess"),
    ],
)
def test_a_missing_entry_is_named_with_its_file_and_nothing_is_drawn(
    files: dict[str, Path], tmp_path: Path, name: str, keys: tuple[str | int, ...], said: str
) -> None:
    content = json.loads(files[name].read_text())
    inner = content
    for key in keys[:-1]:
        inner = inner[key]
    del inner[keys[-1]]
    broken = tmp_path / f"broken_{name}.json"
    broken.write_text(json.dumps(content))
    given = {"policies": None, "studies": None, name: broken}
    with pytest.raises(ConfigError, match=rf"broken_{name}\.json.*'{said}'"):
        draw_figures(given["policies"], None, given["studies"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", [None, "no JSON", "[1]", '{"report": {"other": {}}}', '{"report": 3}'])
def test_a_file_that_is_no_report_is_refused_by_name(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "studies.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=r"studies\.json"):
        draw_figures(None, None, path, tmp_path / "out")


def test_nothing_given_and_a_rewrite_alone_are_refused_with_the_way_out(files: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--policies, --studies or --questions"):
        draw_figures(None, None, None, tmp_path)
    for studies in (None, files["studies"]):
        with pytest.raises(ConfigError, match="--policies"):
            draw_figures(None, files["rewrite"], studies, tmp_path)


def test_without_matplotlib_the_extra_is_named(
    files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ConfigError, match=r"hedgespec\[figures\]"):
        draw_figures(files["policies"], None, None, tmp_path / "out")


def test_every_policy_has_a_colour_of_its_own_and_keeps_it_under_its_other_name() -> None:
    assert len({look(name).colour for name in MAIN}) == len(MAIN)
    assert look("best drafter of the domain") == look("best expert")
    assert look("normalhedge") == look("normalhedge rounds")
    assert in_order(["merged trees", "adaptive rounds", "plain"]) == ["plain", "adaptive rounds", "merged trees"]


def test_every_drawn_study_exists() -> None:
    assert set(OF_STUDIES) <= set(STUDIES)
