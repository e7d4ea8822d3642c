"""The study `weights`: an answer that changes domain twice, on a made recording."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hedgespec.bench.simulation.recording import Recording
from hedgespec.bench.simulation.studies import STUDIES
from hedgespec.bench.simulation.studies.study import COMPARED
from hedgespec.bench.simulation.studies.weights import of_different_domains, spliced
from hedgespec.bench.simulation.workbench import Workbench
from tests.simulated import random_recording

NAMES = ("generic", "d1", "d2")
DOMAINS = ("python", "c", "sql")


def three_domains() -> Recording:
    """Temperature 0; each domain has a drafter that is right 0.9 of the time where the others are right 0.2."""
    recording = random_recording(num_answers=3, num_tokens=180, seed=5)
    chance = np.where(np.eye(3, dtype=bool), 0.9, 0.2)[:, :, None, None]
    hits = (np.random.default_rng(6).random(recording.acceptance.shape) < chance).astype(np.float32)
    return replace(
        recording,
        domains=np.array(DOMAINS),
        temperatures=np.zeros(3),
        acceptance=hits,
        acceptance_prob=hits.copy(),
    )


def test_weights_sum_to_one_and_the_adaptive_learner_ends_every_third_with_its_best_drafter() -> None:
    """The best drafter of a third is its domain's; NormalHedge, which never forgets, is slower in the last one."""
    study = STUDIES["weights"](Workbench(three_domains(), runs_each=1))
    pairs = [(row["domain"], row["best drafter"]) for row in study.rows]
    assert sorted(pairs) == sorted(zip(DOMAINS, NAMES, strict=True))
    assert [(row["start"], row["end"]) for row in study.rows] == [(0, 60), (60, 120), (120, 180)]
    for learner in COMPARED:
        curves = np.array([study.figure[f"{learner} {name}"] for name in NAMES])
        assert curves.shape == (3, 181)
        assert np.allclose(curves.sum(axis=0), 1.0, atol=3e-4)  # rounded to four decimals
        assert np.allclose(curves[:, 0], 1.0 / 3.0, atol=1e-4)
        for row in study.rows:
            at_the_end = curves[NAMES.index(row["best drafter"]), row["end"]]
            assert row[f"weight of {learner}"] == at_the_end
            if learner == "adaptive":
                assert at_the_end == curves[:, row["end"]].max() > 0.5
    last = study.rows[-1]
    assert last["weight of adaptive"] > last["weight of normalhedge"]


def test_the_parts_keep_their_positions_and_come_from_different_domains() -> None:
    """Two domains alternate, and every number of a part is that of its own answer at the same position."""
    recording = random_recording(8, num_tokens=31, seed=3)
    answers = of_different_domains(recording)
    first, second, third = (str(recording.domains[a]) for a in answers)
    assert {first, second} == {"python", "c"}
    assert third == first
    assert (recording.temperatures[answers] == 1.0).all()
    one = spliced(recording, answers)
    assert one.acceptance.shape == (1, *recording.acceptance.shape[1:])
    for position in range(31):
        own = answers[position * 3 // 31]
        assert np.array_equal(one.acceptance[0, :, position], recording.acceptance[own, :, position])
        assert one.token_ids[0, position] == recording.token_ids[own, position]


def test_every_part_is_of_a_new_domain_with_a_new_leader() -> None:
    """Another answer of the first leader is passed over as long as there is any other; its clear lead does not matter."""
    recording = three_domains()
    recording = recording.take(np.array([0, 0, 1, 2]))
    recording.domains[:] = ["python", "json", "c", "sql"]
    assert sorted(of_different_domains(recording)) in ([0, 2, 3], [1, 2, 3])
    alike = recording.take(np.array([0, 1]))
    assert of_different_domains(alike) == [0, 1, 0]
