"""Pools, mixed answers and files made from a recording."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hedgespec.bench.simulation.hindsight import fixed_passes
from hedgespec.bench.simulation.pools import larger_pool, mixed_answers, smaller_pool, with_experts
from hedgespec.bench.simulation.recording import Recording, by_start
from hedgespec.errors import ConfigError
from hedgespec.learning.experts import Expert
from tests.simulated import random_recording


def test_a_larger_pool_keeps_the_recorded_drafters_and_adds_possible_ones() -> None:
    """Copies are made of recorded numbers, so at temperature 0 they are still hits and misses, and none is the best."""
    recording = random_recording(8, seed=1)
    pool = larger_pool(recording, 16, seed=0)
    assert pool.num_drafters == 16
    assert np.array_equal(pool.acceptance[:, :3], recording.acceptance)
    assert set(np.unique(pool.acceptance[pool.temperatures == 0.0])) == {0.0, 1.0}
    passes = fixed_passes(pool.acceptance)
    assert len(np.unique(passes[0].round(6))) > 8
    assert np.array_equal(larger_pool(recording, 16, seed=0).acceptance, pool.acceptance)


def test_a_smaller_pool_has_different_recorded_drafters() -> None:
    recording = random_recording(8, num_drafters=5, seed=2)
    pool = smaller_pool(recording, 2, seed=0)
    own = fixed_passes(recording.acceptance)
    for answer, passes in enumerate(fixed_passes(pool.acceptance)):
        indices = [int(np.flatnonzero(np.isclose(own[answer], value))[0]) for value in passes]
        assert len(set(indices)) == 2


def test_mixed_answers_join_halves_of_different_domains_at_one_temperature() -> None:
    recording = random_recording(8, seed=3)
    mixed = mixed_answers(recording, seed=0)
    half = recording.num_tokens // 2
    assert np.array_equal(mixed.acceptance[:, :, :half], recording.acceptance[:, :, :half])
    for answer, pair in enumerate(mixed.domains):
        first, second = pair.split("+")
        assert first == recording.domains[answer] != second
        same = [
            other
            for other in range(8)
            if np.array_equal(recording.acceptance[other, :, half:], mixed.acceptance[answer, :, half:])
        ]
        assert [recording.domains[other] for other in same] == [second]
        assert recording.temperatures[same[0]] == recording.temperatures[answer]


def test_experts_of_shorter_drafts_need_more_passes_and_none_needs_one_per_token() -> None:
    recording = random_recording(seed=4)
    experts = [Expert(0, 1), Expert(0, 3), Expert(None, 0)]
    passes = fixed_passes(with_experts(recording, experts).acceptance)
    assert (passes[:, 0] > passes[:, 1]).all()
    assert np.allclose(passes[:, 1], fixed_passes(recording.acceptance)[:, 0])
    assert np.allclose(passes[:, 2], recording.num_tokens)


def test_by_start_follows_the_rounds_diagonal() -> None:
    rows = np.arange(12, dtype=np.float32).reshape(4, 3)
    assert by_start(rows).tolist() == [[0, 4, 8], [3, 7, 11], [6, 10, 0], [9, 0, 0]]


def test_a_recording_comes_back_from_its_file(tmp_path: Path) -> None:
    recording = random_recording()
    recording.save(tmp_path / "new" / "table")
    loaded = Recording.load(tmp_path / "new" / "table")
    for name in Recording.__slots__:
        assert np.array_equal(getattr(loaded, name), getattr(recording, name)), name


def test_another_file_is_refused_with_the_way_out(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", acceptance=np.zeros(3))
    (tmp_path / "text").write_text("no table")
    for name in ("other.npz", "text", "absent"):
        with pytest.raises(ConfigError, match="simulate record"):
            Recording.load(tmp_path / name)
