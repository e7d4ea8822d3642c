"""Scores run a pass at a time: drafts get in between, ends of sessions do not, and no answer depends on it."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hedgespec.config import DrafterConfig
from hedgespec.engine.drafter_engine import DrafterRunner
from hedgespec.engine.engine import Engine
from hedgespec.engine.served_heads import served_bank
from hedgespec.engine.work import CloseSession, Observe, OpenSession
from hedgespec.errors import ReplicaLost
from hedgespec.models.eagle3.head import load_eagle3
from hedgespec.models.eagle3.head_drafters import load_eagle3_drafters
from hedgespec.types import (
    DraftRequest,
    DraftTree,
    FeatureBlock,
    Observation,
    SamplingParams,
    ScoreRequest,
    Scores,
    SessionSpec,
)
from tests.eagle3_reference import DenseHead
from tests.engine_sessions import GREEDY, make_spec, random_ids
from tests.model_folders import HIDDEN_SIZE, VOCAB_SIZE, make_eagle3

NUM_PASSES = 4


class SlowScorer:
    """A drafter that logs its calls; a score takes NUM_PASSES passes and fails in the second for sessions named `bad`."""

    digest = "fake"
    uses_features = False

    def __init__(self, drafter_id: str, batched_by: str | None = None) -> None:
        self.drafter_id = drafter_id
        self.batched_by = batched_by or drafter_id
        self.log: list[str] = []

    def open(self, spec: SessionSpec) -> None:
        self.log.append(f"open {spec.session_id}")

    def observe(self, session_id: str, observation: Observation) -> Observation:
        self.log.append(f"observe {session_id}")
        return observation

    def has_newest_features(self, session_id: str) -> bool:
        return True

    def draft(self, requests: Sequence[DraftRequest]) -> list[DraftTree]:
        self.log += [f"draft {request.session_id}" for request in requests]
        return [DraftTree.chain(np.ones(1, np.int32)) for _ in requests]

    def score_passes(self, requests: Sequence[ScoreRequest]) -> Generator[None, None, list[Scores]]:
        for number in range(NUM_PASSES):
            self.log.append(f"pass {number} " + "+".join(r.drafter_id + r.session_id for r in requests))
            if number == 1 and any(r.session_id == "bad" for r in requests):
                raise RuntimeError("a kernel failed")
            yield
        return [Scores(r.observation.start, np.ones((1, 1), np.float32)) for r in requests]

    def close(self, session_id: str) -> None:
        self.log.append(f"close {session_id}")


def observed(start: int = 0, wants_scores: bool = True) -> Observation:
    return Observation(start, np.ones(1, np.int32), np.ones(1, np.float32), None, wants_scores)


def opened(engine: Engine, drafter_id: str, *names: str) -> None:
    for name in names:
        engine.submit(OpenSession(make_spec(np.ones(2, np.int32), name), drafter_id))
    engine.step()


def test_a_draft_waits_for_one_pass_and_not_for_all() -> None:
    model = SlowScorer("d")
    engine = Engine(DrafterRunner({"d": model}), "test")  # type: ignore[dict-item]
    opened(engine, "d", "a", "b")
    score = engine.submit(Observe("a", observed(), "d"))
    assert engine.step() == 0.0
    draft = engine.submit(DraftRequest("b", 0, 4, drafter_id="d"))
    unscored = engine.submit(Observe("a", observed(1, wants_scores=False), "d"))
    assert engine.step() == 0.0
    assert draft.done()
    assert unscored.done()
    assert not score.done()
    while engine.step() is not None:
        pass
    assert score.result(0).start == 0
    passes = [f"pass {number} da" for number in range(NUM_PASSES)]
    assert model.log[2:] == ["observe a", passes[0], "observe a", "draft b", *passes[1:]]


class Ticking:
    """A clock that advances by a second whenever it is read, so that drafts and passes take one each."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        self.now_s += 1.0
        return self.now_s


def test_drafts_wait_longer_for_scores_of_many_answers() -> None:
    """Scores of three answers run two passes per step of drafts."""
    model = SlowScorer("d")
    engine = Engine(DrafterRunner({"d": model}, clock=Ticking()), "test")  # type: ignore[dict-item]
    opened(engine, "d", "a", "b", "c")
    for name in "abc":
        engine.submit(Observe(name, observed(), "d"))
    drafts = []
    while engine.step() is not None:
        drafts.append(engine.submit(DraftRequest("a", len(drafts), 4, drafter_id="d")))
    assert drafts[0].done()
    order = ["draft" if line.startswith("draft") else "pass" for line in model.log if line[:4] in ("draf", "pass")]
    assert order[:5] == ["pass", "draft", "pass", "pass", "draft"]


@pytest.mark.parametrize("ends_by", ["close", "open"])
def test_a_session_that_ends_is_scored_first(ends_by: str) -> None:
    model = SlowScorer("d")
    engine = Engine(DrafterRunner({"d": model}), "test")  # type: ignore[dict-item]
    opened(engine, "d", "a", "b")
    score = engine.submit(Observe("a", observed(), "d"))
    engine.step()
    engine.submit(CloseSession("b", "d"))  # another session's end changes nothing
    assert engine.step() == 0.0
    assert model.log[-2:] == ["close b", "pass 1 da"]
    engine.submit(
        CloseSession("a", "d") if ends_by == "close" else OpenSession(make_spec(np.ones(2, np.int32), "a"), "d")
    )
    engine.step()
    assert score.result(0).start == 0
    assert model.log[-3:] == ["pass 2 da", "pass 3 da", f"{ends_by} a"]


def test_drafters_that_compute_together_are_scored_together_and_others_after_them() -> None:
    first, second, other = SlowScorer("d"), SlowScorer("e", batched_by="d"), SlowScorer("f")
    engine = Engine(DrafterRunner({"d": first, "e": second, "f": other}), "test")  # type: ignore[dict-item]
    for name in "def":
        opened(engine, name, "a")
    scores = [engine.submit(Observe("a", observed(), name)) for name in "edf"]
    while engine.step() is not None:
        pass
    assert [score.result(0).start for score in scores] == [0, 0, 0]
    assert [line for line in first.log if "pass" in line] == [f"pass {number} ea+da" for number in range(NUM_PASSES)]
    assert not [line for line in second.log if "pass" in line]
    assert [line for line in other.log if "pass" in line] == [f"pass {number} fa" for number in range(NUM_PASSES)]


def test_a_pass_that_fails_fails_what_is_broken_alone() -> None:
    model = SlowScorer("d")
    engine = Engine(DrafterRunner({"d": model}), "test")  # type: ignore[dict-item]
    opened(engine, "d", "a", "bad", "c")
    scores = [engine.submit(Observe(name, observed(), "d")) for name in ("a", "bad", "c")]
    while engine.step() is not None:
        pass
    assert scores[0].result(0).start == scores[2].result(0).start == 0
    with pytest.raises(ReplicaLost, match="a kernel failed"):
        scores[1].result(0)


def test_stopping_in_the_middle_fails_the_scores() -> None:
    engine = Engine(DrafterRunner({"d": SlowScorer("d")}), "test")  # type: ignore[dict-item]
    opened(engine, "d", "a")
    score = engine.submit(Observe("a", observed(), "d"))
    engine.step()
    engine.stop()
    with pytest.raises(ReplicaLost, match="stopped"):
        score.result(0)


@pytest.mark.parametrize("sampling", [GREEDY, SamplingParams(temperature=1.0)], ids=["greedy", "rejection"])
@pytest.mark.parametrize("score_depth", ["own_rounds", "exact"])
def test_scores_of_heads_do_not_depend_on_what_comes_between_their_passes(
    tmp_path: Path, sampling: SamplingParams, score_depth: str
) -> None:
    """The scored sessions observe more tokens, draft, and get features between the passes."""
    configs = [
        DrafterConfig(id=f"h{i}", kind="eagle3", model=str(make_eagle3(tmp_path / f"h{i}", seed=i))) for i in range(3)
    ]
    embedding = torch.randn((VOCAB_SIZE, HIDDEN_SIZE), generator=torch.Generator().manual_seed(1))
    num_prompt, num_tokens = 10, 60
    ids = random_ids(num_prompt + num_tokens, seed=2)
    features = np.random.default_rng(5).normal(size=(len(ids), 3 * HIDDEN_SIZE)).astype(np.float32)
    head = load_eagle3(Path(configs[0].model or ""), embedding)
    for position in range(0, num_tokens - 4, 4):  # text that one of the heads would have written, for stretches
        drafted = DenseHead(head, ids, features).greedy_draft(num_prompt + position, 3)
        ids[num_prompt + position : num_prompt + position + 3] = drafted
    probs = np.full(num_tokens, 0.4, np.float32)
    results: list[list[Any]] = []
    for is_disturbed in (False, True):
        drafters = load_eagle3_drafters(configs, embedding, HIDDEN_SIZE, served_bank)
        engine = Engine(DrafterRunner(drafters), "test")
        spec = make_spec(ids[:num_prompt], "a", sampling, max_draft_tokens=4, score_depth=score_depth)
        for drafter in drafters.values():
            engine.submit(OpenSession(spec, drafter.drafter_id))
            drafter.push(FeatureBlock("a", 0, features[: num_prompt - 1]))
        answers: list[Future[Any]] = []
        for start in range(0, num_tokens - 10, 10):
            span = slice(num_prompt + start, num_prompt + start + 10)
            seen = Observation(start, ids[span], probs[start : start + 10])
            for drafter in drafters.values():
                drafter.push(FeatureBlock("a", span.start - 1, features[span.start - 1 : span.stop - 1]))
            answers += [engine.submit(Observe("a", seen, drafter_id)) for drafter_id in drafters]
            num_steps = 0
            while engine.step() is not None:
                num_steps += 1
                if is_disturbed:
                    chain = engine.submit(DraftRequest("a", start, 4, drafter_id=f"h{num_steps % 3}"))
                    engine.step()
                    assert chain.done()
            assert num_steps >= 3, "there is something between the passes"
            for drafter_id in drafters:
                chain = engine.submit(DraftRequest("a", start, 4, drafter_id=drafter_id))
                engine.step()
                answers.append(chain)
        results.append([answer.result(0) for answer in answers])
    for alone, disturbed in zip(*results, strict=True):
        if isinstance(alone, DraftTree):
            np.testing.assert_array_equal(alone.token_ids, disturbed.token_ids)
        else:
            np.testing.assert_allclose(alone.acceptance, disturbed.acceptance, atol=1e-5)
