"""A target uses the cores that its process may use, drafters one, and neither changes the other's threads."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import torch

from hedgespec import config as config_module
from hedgespec.config import AutoscalingConfig, DrafterConfig, TargetConfig
from hedgespec.cores import available_cores
from hedgespec.engine.engine import Engine
from hedgespec.engine.factory import use_threads
from hedgespec.engine.work import Ticket


class ThreadCounter:
    """A runner that answers work with the number of torch threads that it sees."""

    def add(self, ticket: Ticket) -> None:
        if ticket.start():
            ticket.resolve((torch.get_num_threads(), threading.current_thread().name))

    def step(self, now_s: float) -> float | None:
        return None

    def drain(self) -> list[Ticket]:
        return []


def test_engines_of_one_process_keep_their_own_number_of_threads() -> None:
    engines = [Engine(ThreadCounter(), str(n), prepare=lambda n=n: use_threads(n)) for n in (2, 1, 3)]  # type: ignore[misc]
    before = torch.get_num_threads()
    try:
        for engine in engines:
            engine.start()
        for _ in range(2):
            seen = [engine.submit(None).result(10) for engine in engines]  # type: ignore[arg-type]
            assert seen == [(2, "engine-2"), (1, "engine-1"), (3, "engine-3")]
    finally:
        for engine in engines:
            engine.stop()
    assert torch.get_num_threads() == before


def test_a_target_shares_the_cores_among_its_replicas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config_module, "available_cores", lambda: 6)
    assert TargetConfig().threads == 6
    assert TargetConfig(replicas=2).threads == 3
    assert TargetConfig(replicas=AutoscalingConfig(max_replicas=9)).threads == 1
    assert TargetConfig(num_threads=12).threads == 12
    monkeypatch.setattr(config_module, "available_cores", lambda: 64)
    assert TargetConfig().threads == config_module.MOST_TARGET_THREADS
    assert DrafterConfig(id="ngram", kind="ngram").threads == 1
    assert DrafterConfig(id="ngram", kind="ngram", num_threads=3).threads == 3


@pytest.mark.parametrize(
    ("content", "expected"), [("100000 100000", 1), ("50000 100000", 1), ("max 100000", None), ("x", None)]
)
def test_a_container_uses_no_more_than_its_quota(content: str, expected: int | None, tmp_path: Path) -> None:
    quota, unlimited = tmp_path / "cpu.max", available_cores(tmp_path / "none")
    quota.write_text(content + "\n", encoding="ascii")
    assert available_cores(quota) == (expected or unlimited)
