"""Recorded answers to questions give what live runs give, and replays carry preferences from turn to turn."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from deployments.cli import app
from hedgespec.assembly.local_service import LocalService
from hedgespec.bench.questions.arms import arm_names, question_arms, replayed_arm, replayed_names
from hedgespec.bench.questions.conversation import TenantPer
from hedgespec.bench.questions.journal import Journal
from hedgespec.bench.questions.measure import alternating, measure_questions
from hedgespec.bench.questions.recorder import QuestionRecorder
from hedgespec.bench.questions.recording import QuestionRecording, RecordingCost
from hedgespec.bench.questions.replay import Tenants, replay_args, replay_questions, trace_weights
from hedgespec.bench.questions.report import ALL, question_report
from hedgespec.errors import ConfigError
from tests.simulated import random_recording
from tests.toy_args import NEAR_AND_FAR
from tests.toy_questions import QUESTIONS, toy_chat, write_questions

DRAFTERS = ("near", "far")
NAMES = replayed_names(arm_names(DRAFTERS, has_router=False))
MAX_TOKENS = 24


async def recorded(
    local: LocalService, temperatures: tuple[float, ...] = (0.0,), into: QuestionRecording | None = None
) -> QuestionRecording:
    depth = NEAR_AND_FAR.speculation.max_draft_tokens
    recording = into or QuestionRecording(DRAFTERS, depth, {"max_tokens": MAX_TOKENS}, [], RecordingCost())
    recorder = QuestionRecorder(local.fleet, local.tokenizer, recording, MAX_TOKENS, lambda: None)
    await recorder.record(alternating(QUESTIONS), temperatures)
    return recording


async def test_at_temperature_0_a_replay_needs_the_passes_of_live_runs() -> None:
    """Plain decoding and every drafter alone exactly, with the same texts; the learner within a quarter: it draws."""
    async with toy_chat() as local:
        recording = await recorded(local)
        journal = Journal()
        arms = [arm for arm in question_arms(NEAR_AND_FAR, local, None) if arm.name in NAMES]
        work = alternating(QUESTIONS)
        await measure_questions(arms, work, local.tokenizer, [0.0], MAX_TOKENS, "question", journal, lambda: None)
    args = replay_args(NEAR_AND_FAR, recording)
    replayed = replay_questions(recording, args, NAMES, {}, "question", 8, 0, lambda: None)
    live = {c.key: c for c in journal.conversations}
    assert {c.key for c in replayed} == set(live)
    for conversation in replayed:
        for own, other in zip(conversation.answers, live[conversation.key].answers, strict=True):
            assert (own.tokens, own.digest) == (other.tokens, other.digest)
            if conversation.arm in ("plain", *DRAFTERS):
                assert own.passes == pytest.approx(other.passes, abs=1e-9)
    cells = question_report(replayed, NAMES, DRAFTERS, replayed_arm()).sections["0"][ALL].cells
    had = question_report(journal.conversations, NAMES, DRAFTERS, replayed_arm()).sections["0"][ALL].cells
    assert cells[replayed_arm()].passes == pytest.approx(had[replayed_arm()].passes, rel=0.25)
    assert cells["plain"].over_plain is None


async def test_a_recording_is_read_back_as_it_was_and_goes_on(tmp_path: Path) -> None:
    """What it has is kept, what is missing is added: the order is that of the questions."""
    path = tmp_path / "recording.npz"
    async with toy_chat() as local:
        whole = await recorded(local, (0.0, 0.7))
        half = await recorded(local)
        half.save(path)
        resumed = await recorded(local, (0.0, 0.7), into=QuestionRecording.load(path))
    resumed.save(path)
    loaded = QuestionRecording.load(path)
    assert [(a.question_id, a.turn, a.temperature) for a in loaded.answers] == [
        (a.question_id, a.turn, a.temperature) for a in whole.answers
    ]
    for own, other in zip(loaded.answers, whole.answers, strict=True):
        assert own.token_ids.tolist() == other.token_ids.tolist()
        assert np.array_equal(own.scores.acceptance, other.scores.acceptance)
        assert np.array_equal(own.scores.acceptance_prob, other.scores.acceptance_prob)
    assert loaded.cost == resumed.cost
    assert loaded.cost.num_tokens == sum(a.num_tokens for a in loaded.answers) > loaded.cost.num_passes


@pytest.mark.parametrize("tenant_per", ["question", "category", "run"])
async def test_tenants_of_a_replay_learn_from_turn_to_turn(
    tenant_per: TenantPer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hedgespec.bench.questions import replay

    async with toy_chat() as local:
        recording = await recorded(local)
    priors: list[float] = []
    original = replay.make_answer_learning

    def spy(preference, *others):  # type: ignore[no-untyped-def]
        priors.append(float(preference[0]))
        return original(preference, *others)

    monkeypatch.setattr(replay, "make_answer_learning", spy)
    tenants = Tenants(replay_args(NEAR_AND_FAR, recording), DRAFTERS, tenant_per)
    for answer in recording.answers:
        tenants.answer(answer, 0)
    first, second, other_category, _, same_category = priors
    assert first == 0.5
    assert second > 0.7
    assert (other_category > 0.5) == (tenant_per == "run")
    assert (same_category > 0.5) == (tenant_per != "question")


async def test_weights_are_traced_along_one_answer() -> None:
    async with toy_chat() as local:
        recording = await recorded(local)
    args = replay_args(NEAR_AND_FAR, recording)
    trace = trace_weights(recording, args, "3", 0)
    assert trace is not None
    assert (trace.question_id, trace.category, trace.picked) == ("3", "maths", False)
    assert trace.positions[0] == 0
    assert max(trace.positions) < trace.num_tokens
    assert len(trace.positions) == len(trace.weights["near"]) == len(trace.weights["far"])
    assert trace.weights["near"][-1] > trace.weights["near"][0] == 0.5
    assert trace_weights(recording, args, None, 0) is not None
    assert trace_weights(recording, args, "nobody", 0) is None


def test_a_question_file_is_recorded_and_replayed_from_the_command_line(tmp_path: Path) -> None:
    """On the zoo's target with n-gram and one head; a second recording goes on without decoding anything."""
    file, table, out = write_questions(tmp_path / "q.jsonl"), tmp_path / "t.npz", tmp_path / "r.json"
    config = tmp_path / "config.yaml"
    config.write_text(
        "target: {model: zoo}\ndrafters: [{id: sql, kind: eagle3, model: zoo}, {id: ngram, kind: ngram}]\n"
    )
    options = ["--prompts", str(file), "--config", str(config), "--max-tokens", "6", "--temperature", "0"]
    for more in ([], ["--resume"]):
        result = CliRunner().invoke(app, ["simulate", "record", *options, "--out", str(table), *more])
        assert result.exit_code == 0, result.output
        assert "Wrote 5 answers" in " ".join(result.output.split())
    changed = ["simulate", "record", *options, "--max-tokens", "7", "--resume", "--out", str(table)]
    assert "max_tokens 6, not 7" in str(CliRunner().invoke(app, changed).exception)
    replay = ["simulate", "questions", "--table", str(table), "--runs-each", "2", "--json", str(out)]
    result = CliRunner().invoke(app, replay)
    assert result.exit_code == 0, result.output
    report = json.loads(out.read_text())["report"]
    assert set(report["sections"]["0"]) == {"writing", "maths", ALL}
    assert report["sections"]["0"][ALL]["cells"]["ngram"]["over_plain"] is None
    assert report["weights"]["weights"].keys() == {"sql", "ngram"}
    assert CliRunner().invoke(app, [*replay, "--question", "nobody"]).exit_code == 2


def test_the_two_kinds_of_recording_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "table.npz"
    random_recording(4).save(path)
    with pytest.raises(ConfigError, match="simulate record --prompts"):
        QuestionRecording.load(path)
    result = CliRunner().invoke(app, ["simulate", "record", "--out", str(path), "--resume"])
    assert result.exit_code == 2
    assert "--prompts FILE" in " ".join(result.output.split())
