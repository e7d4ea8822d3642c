"""The engine's thread: nothing is lost, nothing hangs, one failure is one failure."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Sequence

import numpy as np
import pytest

from hedgespec.engine.drafter_engine import DrafterRunner
from hedgespec.engine.engine import Engine
from hedgespec.engine.work import CloseSession, Observe, OpenSession, Ticket, Work
from hedgespec.errors import ReplicaLost, UnknownSession
from hedgespec.models.drafter_model import Usage
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


class FakeDrafter:
    """A drafter of chains of the session's number of tokens; sessions named `bad...` raise, in a batch as well as alone."""

    digest = "fake"
    uses_features = True

    def __init__(self, drafter_id: str = "d") -> None:
        self.drafter_id = self.batched_by = drafter_id
        self.has_features = True
        self.sessions: dict[str, int] = {}
        self.batches: list[list[str]] = []

    def open(self, spec: SessionSpec) -> None:
        self.sessions[spec.session_id] = 0

    def observe(self, session_id: str, observation: Observation) -> Observation:
        if session_id not in self.sessions:
            raise UnknownSession(session_id)
        self.sessions[session_id] += len(observation.token_ids)
        return observation

    def push(self, block: FeatureBlock) -> None:
        self.has_features = True

    def has_newest_features(self, session_id: str) -> bool:
        return self.has_features

    def draft(self, requests: Sequence[DraftRequest]) -> list[DraftTree]:
        self.batches.append([request.session_id for request in requests])
        if any(request.session_id.startswith("bad") for request in requests):
            raise RuntimeError("a kernel failed")
        return [DraftTree.chain(np.full(self.sessions[r.session_id], 1, np.int32)) for r in requests]

    def score_passes(self, requests: Sequence[ScoreRequest]) -> Generator[None, None, list[Scores]]:
        yield from ()
        return [Scores(r.observation.start, np.ones((1, 1), np.float32)) for r in requests]

    def close(self, session_id: str) -> None:
        self.sessions.pop(session_id, None)

    def usage(self) -> Usage:
        return Usage(len(self.sessions))


def open_work(session_id: str, drafter_id: str = "d") -> OpenSession:
    ids = np.ones(1, np.int32)
    return OpenSession(SessionSpec(session_id, ids, ids[:0], SamplingParams(), 0, 4), drafter_id)


def observe_work(session_id: str, wants_scores: bool = True) -> Observe:
    return Observe(session_id, Observation(0, np.ones(1, np.int32), np.ones(1, np.float32), None, wants_scores), "d")


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_drafts_of_all_sessions_run_in_one_batch_after_the_state_changes() -> None:
    model = FakeDrafter()
    engine = Engine(DrafterRunner({"d": model}), "test")
    works: list[Work] = []
    for session_id in ("a", "b", "c"):
        works += [
            open_work(session_id),
            DraftRequest(session_id, 0, 4, drafter_id="d"),
            observe_work(session_id, wants_scores=False),
        ]
    futures = [engine.submit(work) for work in works]
    engine.step()
    assert model.batches == [["a", "b", "c"]]
    assert [future.result(0).num_nodes for future in futures[1::3]] == [1, 1, 1]
    assert [future.result(0) for future in futures[2::3]] == [None] * 3


def test_one_failing_session_does_not_hurt_the_batch() -> None:
    engine = Engine(DrafterRunner({"d": FakeDrafter()}), "test")
    for session_id in ("a", "bad", "c"):
        engine.submit(open_work(session_id))
    futures = [engine.submit(DraftRequest(session_id, 0, 4, drafter_id="d")) for session_id in ("a", "bad", "c")]
    engine.step()
    assert futures[0].result(0).num_nodes == futures[2].result(0).num_nodes == 0
    with pytest.raises(ReplicaLost, match="a kernel failed"):
        futures[1].result(0)


def test_a_draft_waits_for_features_only_for_its_grace() -> None:
    model, clock = FakeDrafter(), Clock()
    model.has_features = False
    engine = Engine(DrafterRunner({"d": model}, feature_grace_s=0.02), "test", clock)
    engine.submit(open_work("a"))
    future = engine.submit(DraftRequest("a", 0, 4, drafter_id="d"))
    assert engine.step() == pytest.approx(0.02)
    assert not future.done()
    clock.now_s += 0.021
    assert engine.step() is None
    assert future.done()


def test_the_thread_wakes_up_when_features_come() -> None:
    model = FakeDrafter()
    model.has_features = False
    engine = Engine(DrafterRunner({"d": model}, feature_grace_s=30.0), "test")
    engine.start()
    engine.submit(open_work("a")).result(10)
    future = engine.submit(DraftRequest("a", 0, 4, drafter_id="d"))
    time.sleep(0.05)
    assert not future.done()
    model.push(FeatureBlock("a", 0, np.zeros((1, 1), np.float32)))
    engine.wake()
    assert future.result(10).num_nodes == 0
    engine.stop()


def test_what_was_observed_and_closed_counts_even_when_the_caller_has_gone() -> None:
    model = FakeDrafter()
    engine = Engine(DrafterRunner({"d": model}), "test")
    engine.submit(open_work("a"))
    engine.submit(open_work("b"))
    for work in (observe_work("a"), CloseSession("b", "d"), DraftRequest("a", 0, 4, drafter_id="d")):
        assert engine.submit(work).cancel()
    engine.step()
    assert model.sessions == {"a": 1}
    assert model.batches == []


def test_many_threads_may_submit_at_once() -> None:
    model = FakeDrafter()
    engine = Engine(DrafterRunner({"d": model}), "test")
    engine.start()

    def use(name: str) -> None:
        for n in range(30):
            session_id = f"{name}{n}"
            engine.submit(open_work(session_id)).result(10)
            assert engine.submit(DraftRequest(session_id, 0, 1, drafter_id="d")).result(10).num_nodes == 0
            engine.submit(CloseSession(session_id, "d")).result(10)

    threads = [threading.Thread(target=use, args=(f"t{n}-",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert model.usage() == Usage()
    engine.stop()


def test_stopping_fails_what_is_pending_and_what_comes_later() -> None:
    model = FakeDrafter()
    model.has_features = False
    engine = Engine(DrafterRunner({"d": model}, feature_grace_s=30.0), "test")
    engine.start()
    engine.submit(open_work("a")).result(10)
    pending = engine.submit(DraftRequest("a", 0, 4, drafter_id="d"))
    engine.stop()
    for future in (pending, engine.submit(DraftRequest("a", 1, 4, drafter_id="d"))):
        with pytest.raises(ReplicaLost, match="stopped"):
            future.result(10)


class ExplodingRunner:
    """A runner that fails outside of any ticket's own work."""

    def __init__(self) -> None:
        self.pending: list[Ticket] = []

    def add(self, ticket: Ticket) -> None:
        self.pending.append(ticket)

    def step(self, now_s: float) -> float | None:
        if self.pending:
            raise ZeroDivisionError
        return None

    def drain(self) -> list[Ticket]:
        drained, self.pending = self.pending, []
        return drained


def test_a_runner_that_fails_as_a_whole_does_not_end_the_thread() -> None:
    engine = Engine(ExplodingRunner(), "test")
    engine.start()
    for _ in range(2):
        with pytest.raises(ReplicaLost, match="ZeroDivisionError"):
            engine.submit(CloseSession("a")).result(10)
    engine.stop()
