"""`hedgespec bench learner` runs every learner there is."""

import json
from pathlib import Path

import typer
from typer.testing import CliRunner

from deployments.commands.bench_parts import NUM_EXPERTS, learner
from hedgespec.catalogue import BANDITS, LEARNERS


def test_the_report_has_a_time_for_every_learner_and_number_of_drafters(tmp_path: Path) -> None:
    """A learner that is registered is measured; the JSON carries what the table shows, and the machine."""
    app = typer.Typer()
    app.command()(learner)
    file = tmp_path / "times.json"
    result = CliRunner().invoke(app, ["--repeats", "10", "--json", str(file)])
    assert result.exit_code == 0, result.output
    written = json.loads(file.read_text())
    assert written["machine"]
    measured = {(entry["learner"], entry["num_experts"]) for entry in written["report"]["times"]}
    names = {*LEARNERS.names(), *BANDITS.names()}
    assert measured == {(name, count) for name in names for count in NUM_EXPERTS}
    assert all(entry["low_us"] <= entry["median_us"] <= entry["high_us"] for entry in written["report"]["times"])
    assert written["report"]["growth"] is None
