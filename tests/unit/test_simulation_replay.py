"""Replays are exact: against the u recursion, against the router's own learner, against brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from hedgespec.bench.simulation.bandits import Exp3SpecPolicy, UcbPolicy, UcbSpecPolicy
from hedgespec.bench.simulation.hindsight import best_per_round_passes, best_switch_passes, fixed_passes
from hedgespec.bench.simulation.learned_weights import NEVER, answer_losses, weights_by_position
from hedgespec.bench.simulation.policies import FixedPolicy, RandomPolicy, Schedule, WeightsPolicy
from hedgespec.bench.simulation.pools import mixed_answers
from hedgespec.bench.simulation.recording import Recording
from hedgespec.bench.simulation.replay import Policy, replay
from hedgespec.bench.simulation.served import replay_served
from hedgespec.learning.answer_learner import AnswerLearner
from hedgespec.learning.baselines.exp3 import Exp3
from hedgespec.learning.baselines.ucb import UcbSpec
from hedgespec.learning.build import make_learner
from hedgespec.learning.feedback import make_feedback
from hedgespec.learning.scoring_plan import ScoringPlan, sweep
from tests.simulated import passes_of_weights, random_recording, repeated

RUNS = 2000


def learned_weights(recording: Recording, objective: str = "rounds") -> np.ndarray:
    shape = (recording.num_answers, recording.num_drafters)
    losses = answer_losses(recording, lambda: make_feedback(objective, shape[1], recording.max_draft_tokens, NEVER))
    return weights_by_position(losses, make_learner("normalhedge"), np.full(shape, 1.0 / shape[1]))


def assert_means(recording: Recording, policy: Policy, expected: np.ndarray, seed: int) -> None:
    """4.5 standard errors per answer: a false alarm in one of 35,000 seeds for four answers. No spread: equal."""
    passes = replay(recording, policy, repeated(recording.num_answers, RUNS), seed).passes.reshape(-1, RUNS)
    errors = passes.std(axis=1, ddof=1) / np.sqrt(RUNS)
    assert (np.abs(passes.mean(axis=1) - expected) <= 4.5 * errors + 1e-9).all()


@pytest.mark.parametrize("drafter", [0, 1, 2])
def test_replayed_passes_of_a_fixed_drafter_are_the_sum_of_u(drafter: int) -> None:
    """The passes are equal at temperature 0, and in the mean above it (see `assert_means`)."""
    recording = random_recording()
    expected = fixed_passes(recording.acceptance)[:, drafter]
    assert_means(recording, FixedPolicy(np.full(4, drafter)), expected, seed=drafter)
    cold = recording.take(recording.temperatures == 0.0)
    replayed = replay(cold, FixedPolicy(np.full(2, drafter)), np.arange(2), seed=99)
    assert np.allclose(replayed.passes, fixed_passes(cold.acceptance)[:, drafter], atol=1e-9)


def test_replayed_passes_of_a_learner_are_the_exact_expectation_of_its_weights() -> None:
    """Drawing drafters and tokens has the mean that the backward recursion computes (see `assert_means`)."""
    recording = random_recording(seed=1)
    weights = learned_weights(recording)
    expected = passes_of_weights(recording.acceptance, weights[:, :-1])
    assert_means(recording, WeightsPolicy(weights, Schedule()), expected, seed=5)


def test_random_choice_is_uniform_weights() -> None:
    """A random choice needs the passes of uniform weights, in the mean (see `assert_means`)."""
    recording = random_recording(seed=2)
    uniform = np.full((4, recording.num_tokens, 3), 1.0 / 3.0)
    assert_means(recording, RandomPolicy(3), passes_of_weights(recording.acceptance, uniform), seed=3)


@pytest.mark.parametrize(
    "schedule",
    [Schedule(), Schedule(2, 3), Schedule(4, 2, 1, 3), Schedule(0, 4, 4, 2), Schedule(1, 5, 1, 0)],
    ids=lambda schedule: f"{schedule.dense_rounds}-{schedule.every}",
)
@pytest.mark.parametrize("objective", ["rounds", "length"])
def test_weights_by_position_are_those_of_the_routers_own_learner(schedule: Schedule, objective: str) -> None:
    """Following the leader at temperature 0 there is no luck: the fast replay and the served one play the same rounds, under
    every schedule, delay and wait."""
    recording = random_recording(8, num_tokens=60, seed=4)
    recording = recording.take(recording.temperatures == 0.0)
    fast = WeightsPolicy(learned_weights(recording, objective), schedule, "leader")

    def new_learning(answer: int) -> AnswerLearner:
        plan = ScoringPlan(3, schedule.dense_rounds, schedule.every, [0, 0, 0])
        feedback = make_feedback(objective, 3, recording.max_draft_tokens, score_timeout_rounds=1000)
        return AnswerLearner(make_learner("normalhedge"), np.full(3, 1.0 / 3.0), feedback, plan=plan)

    served = replay_served(recording, new_learning, 0, schedule.delay_rounds, schedule.wait_rounds, "leader")
    replayed = replay(recording, fast, np.arange(recording.num_answers), 0)
    assert replayed.passes.tolist() == served.passes.tolist()
    assert len(set(served.passes.tolist())) > 1
    # every token is scored once by every drafter, however late
    assert (served.num_scored == 3 * recording.num_tokens).all()


def test_same_seed_same_replay_and_another_seed_another() -> None:
    recording = random_recording(seed=6)
    weights = learned_weights(recording)
    makers = (lambda: WeightsPolicy(weights, Schedule()), lambda: RandomPolicy(3), lambda: Exp3SpecPolicy(3, 3))
    for make in makers:
        answers = repeated(4, 5)
        first, again, other = (replay(recording, make(), answers, seed) for seed in (7, 7, 8))
        assert np.array_equal(first.chosen, again.chosen)
        assert not np.array_equal(first.chosen, other.chosen)


def test_policies_on_one_seed_meet_the_same_luck() -> None:
    """Two drafters with equal acceptance need the same passes run by run, whatever else the policies draw."""
    recording = random_recording(seed=8)
    recording.acceptance[:, 1] = recording.acceptance[:, 0]
    answers = repeated(4, 50)
    passes = [replay(recording, FixedPolicy(np.full(4, drafter)), answers, 1).passes for drafter in (0, 1)]
    assert np.array_equal(passes[0], passes[1])
    weights = np.zeros((4, recording.num_tokens + 1, 3))
    weights[:, :, :2] = 0.5
    assert np.array_equal(replay(recording, WeightsPolicy(weights, Schedule()), answers, 1).passes, passes[0])


def test_seconds_add_up_the_costs_of_the_chosen_experts() -> None:
    recording = random_recording(seed=9)
    replayed = replay(recording, RandomPolicy(3), repeated(4, 3), 2, np.array([1.0, 2.0, 5.0]))
    played = [(replayed.chosen == expert).sum(axis=1) for expert in range(3)]
    assert np.array_equal(sum(played), replayed.passes)
    assert np.allclose(replayed.seconds, played[0] + 2 * played[1] + 5 * played[2])


def test_best_switch_is_the_best_of_all_pairs() -> None:
    """The best switch equals the best of every pair of drafters played as one-hot weights."""
    recording = mixed_answers(random_recording(num_tokens=20, seed=10), seed=0)
    tried = []
    for first, second in itertools.product(range(3), repeat=2):
        weights = np.zeros((4, 20, 3))
        weights[:, :10, first] = 1.0
        weights[:, 10:, second] = 1.0
        tried.append(passes_of_weights(recording.acceptance, weights))
    best = best_switch_passes(recording.acceptance, 10)
    assert np.allclose(best, np.min(tried, axis=0))
    assert (best <= fixed_passes(recording.acceptance).min(axis=1) + 1e-9).all()
    assert (best_per_round_passes(recording.acceptance) <= best + 1e-9).all()
    assert (best < fixed_passes(recording.acceptance).min(axis=1) - 0.01).any()  # the answers do change


def test_ucbspec_plays_as_the_served_one() -> None:
    """The batched baseline and the registered learner choose the same drafters from the same outcomes."""
    recording = random_recording(num_answers=4, num_tokens=80, depth=5, seed=11)
    cold = recording.take(recording.temperatures == 0.0)
    replayed = replay(cold, UcbSpecPolicy(3, 5), np.arange(2), 0)
    for answer, chosen in enumerate(replayed.chosen):
        learner = UcbSpec(num_draft_tokens=5)
        state = learner.init(np.full(3, 1.0 / 3.0))
        starts = np.flatnonzero(chosen >= 0)
        for start, end in itertools.pairwise([*starts, cold.num_tokens]):
            own = int(chosen[start])
            assert learner.weights(state).argmax() == own, (answer, start)
            losses = np.where(np.arange(3) == own, 1.0 - (end - start) / 6.0, 0.0)
            state = learner.update(state, losses, np.arange(3) == own)


def test_exp3spec_has_the_probabilities_of_the_served_one() -> None:
    recording = random_recording(num_answers=1, num_tokens=80, depth=5, seed=12)
    learner = Exp3(num_draft_tokens=5)
    state = learner.init(np.full(3, 1.0 / 3.0))

    class Watched(Exp3SpecPolicy):
        def played(self, moment, chosen, num_emitted):
            nonlocal state
            assert np.allclose(self._probs[0], learner.weights(state), atol=1e-9)
            awake = np.arange(3) == chosen[0]
            state = learner.update(state, np.where(awake, 1.0 - num_emitted[0] / 6.0, 0.0), awake)
            super().played(moment, chosen, num_emitted)

    assert replay(recording, Watched(3, 5), np.zeros(1, np.int64), 0).passes[0] > 20


def test_discounted_ucb_forgets() -> None:
    """The discounted rule comes back sooner after a change of the best arm than the one that remembers everything."""
    recording = random_recording(num_answers=1, num_tokens=400, seed=13)
    recording.acceptance[:] = 0.0
    recording.acceptance[:, 1, :200] = 1.0
    recording.acceptance[:, 2, 200:] = 1.0
    passes = {
        discount: replay(recording, UcbPolicy(3, 0.5, discount), np.zeros(1, np.int64), 0).passes[0]
        for discount in (1.0, 0.9)
    }
    assert passes[0.9] < passes[1.0]


def test_scores_are_never_forgotten_and_never_from_the_future() -> None:
    """The last scored round rises with the rounds, lags by the delay, and every sweep's turn comes."""
    for dense, every, delay, wait in itertools.product((0, 3), (1, 2, 5), (0, 1, 4), (0, 4)):
        schedule = Schedule(dense, every, delay, wait)
        last = [schedule.last_scored_round(r) for r in range(60)]
        assert all(a <= b for a, b in itertools.pairwise(last))
        assert all(known < r for r, known in enumerate(last))
        firsts = [sweep(r, dense, every)[0] for r in range(60)]
        assert set(firsts) >= set(last) - {-1}
        assert last[-1] >= 59 - 1 - delay - 2 * (every - 1)
        for r in range(1, wait + 1):
            assert last[r] == max((first for first in firsts if first < r), default=-1)
