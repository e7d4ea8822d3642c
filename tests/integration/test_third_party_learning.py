"""A learner and an objective of an installed package are served by their names; nothing of HedgeSpec is edited."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from deployments.commands.inputs import read_args
from hedgespec.api.schemas import CompletionBody, with_sampling_parameters
from hedgespec.assembly.local_service import local_service
from hedgespec.assembly.model_sources import check_sources
from hedgespec.catalogue import LEARNERS
from hedgespec.config import AppArgs, LearnerConfig
from hedgespec.errors import ConfigError
from hedgespec.learning.build import make_learner
from hedgespec.sampling.parameter import parameters
from hedgespec.types import DecodeStats, GenerationRequest, SamplingParams
from tests.toy_package import toy_package

LEARNER = '''
from dataclasses import dataclass

import numpy as np

from hedgespec.learning.learners.full_information import FullInformation


@dataclass(frozen=True)
class State:
    prior: np.ndarray
    losses: np.ndarray
    weights: np.ndarray


class Leader(FullInformation):
    """All weight on the drafter with the smallest loss so far."""

    def start(self, prior):
        return State(prior, np.zeros_like(prior), prior)

    def step(self, state, losses, mixture_loss):
        total = state.losses + losses
        return State(state.prior, total, np.eye(len(total))[total.argmin()])

    def regret_bound(self, num_updates, prior_mass, num_experts):
        return float(num_updates)


def leader(settings):
    return Leader()
'''
SAMPLING = """
from hedgespec.sampling.parameter import SamplingParameter


class Unchanged(SamplingParameter):
    def apply(self, rows, value, counts):
        return rows


class Name(Unchanged):
    name, accepts, neutral, stage = "other", float, 0.0, "probs"


class Stage(Unchanged):
    name, accepts, neutral, stage = "strange", float, 0.0, "somewhere"


class Half(SamplingParameter):
    name, accepts, neutral, stage = "strange", float, 0.0, "probs"


class NotOne:
    pass


class Stream(Unchanged):
    name, accepts, neutral, stage = "stream", float, 0.0, "probs"
"""
OBJECTIVE = '''
from hedgespec.learning.objectives.objective import Objective, loss_vectors


class Hits(Objective):
    """Loss 0 where a round's first draft token is accepted, else 1."""

    def close(self, round_starts, acceptance, acceptance_prob, awake):
        return loss_vectors(1.0 - acceptance[:, :, 0].T, awake.T)


class Misses(Hits):
    """The opposite: it prefers the worse drafter."""

    def close(self, round_starts, acceptance, acceptance_prob, awake):
        return loss_vectors(acceptance[:, :, 0].T, awake.T)
'''
CONFIG = """
target: {{model: "tabular:7"}}
drafters:
  - {{id: near, kind: tabular, model: "tabular:1,closeness=0.9"}}
  - {{id: far, kind: tabular, model: "tabular:2,closeness=0.3"}}
learner: {{{learner}}}
speculation: {{draft_deadline_s: 60, score_timeout_rounds: 10000, wake_every_rounds: 0}}
store: {{url: "memory://"}}
"""


def read_config(config: Path, learner: str) -> AppArgs:
    config.write_text(CONFIG.format(learner=learner))
    return read_args(config)


async def answer(config: Path, learner: str) -> tuple[list[int], list[int], DecodeStats]:
    """The ids of plain decoding, those with the learner, and the latter's statistics."""
    async with local_service(read_config(config, learner)) as local:

        async def generate(drafter: str | None) -> tuple[list[int], DecodeStats]:
            prompt, sampling = local.tokenizer.encode("hello "), SamplingParams(temperature=0.0, max_tokens=80)
            request = GenerationRequest("0" * 32, "default", prompt, sampling, drafter=drafter)
            chunks = [chunk async for chunk in local.service.generate(request)]
            await local.service.drain()
            assert chunks[-1].stats is not None
            return [token for chunk in chunks for token in chunk.token_ids], chunks[-1].stats

        return (await generate("none"))[0], *await generate(None)


async def test_a_package_adds_a_learner(tmp_path: Path) -> None:
    """Weights of exactly 0 and 1 are its own, not those of a built-in learner."""
    with toy_package(tmp_path, "toy_learner", LEARNER, {"hedgespec.learners": {"leader": "leader"}}):
        plain, learned, stats = await answer(tmp_path / "config.yaml", "name: leader, objective: rounds")
    assert learned == plain
    assert stats.weights == {"near": 1.0, "far": 0.0}
    assert stats.expected_passes["near"] < stats.expected_passes["far"]


async def test_a_package_adds_objectives(tmp_path: Path) -> None:
    """Two objectives of one package that want opposite things end with opposite weights, and the same text."""
    names = {"hits": "Hits", "misses": "Misses"}
    with toy_package(tmp_path, "toy_objective", OBJECTIVE, {"hedgespec.objectives": names}):
        plain, learned, hits = await answer(tmp_path / "config.yaml", "objective: hits")
        _, again, misses = await answer(tmp_path / "config.yaml", "objective: misses")
        assert plain == learned == again
        assert hits.weights["near"] > 0.9
        assert misses.weights["far"] > 0.9
        tree = CONFIG.format(learner="objective: hits").replace(
            "{draft_dead", "{draft_form: tree, branching: 2, draft_dead"
        )
        (tmp_path / "tree.yaml").write_text(tree)
        with pytest.raises(ConfigError, match="needs the score of every position"):
            read_args(tmp_path / "tree.yaml")


@pytest.mark.parametrize(("setting", "known"), [({"name": "hegde"}, "adaptive"), ({"objective": "round"}, "rounds")])
def test_an_unknown_name_is_an_error_that_lists_the_known_ones(setting: dict[str, str], known: str) -> None:
    with pytest.raises(ValidationError, match=known):
        LearnerConfig.model_validate(setting)


def test_a_package_cannot_replace_a_built_in_learner(tmp_path: Path) -> None:
    """The meaning of a configuration does not depend on what else is installed."""
    with toy_package(tmp_path, "toy_thief", LEARNER, {"hedgespec.learners": {"adaptive": "leader"}}):
        assert LEARNERS.load("adaptive").__module__ == "hedgespec.learning.learners.normalhedge"


def test_a_bandit_of_a_package_cannot_take_the_name_of_a_built_in_learner(tmp_path: Path) -> None:
    """Learners and bandits share the key learner.name; built-in names of either win."""
    with toy_package(tmp_path, "toy_bandit_thief", LEARNER, {"hedgespec.bandits": {"adaptive": "leader"}}):
        assert not LearnerConfig().is_bandit
        assert type(make_learner("adaptive")).__name__ == "NormalHedge"


async def test_a_learner_that_fails_costs_no_drafter_and_no_answer(tmp_path: Path) -> None:
    """The answer goes on with the last weights, and speculation goes on: no drafter is to blame."""
    source = LEARNER.replace("        total = state.losses + losses", "        raise RuntimeError('not today')")
    with toy_package(tmp_path, "toy_failing", source, {"hedgespec.learners": {"failing": "leader"}}):
        plain, learned, stats = await answer(tmp_path / "config.yaml", "name: failing, objective: rounds")
    assert learned == plain
    assert stats.weights == {"near": 0.5, "far": 0.5}
    assert stats.num_drafts >= stats.num_rounds - 2


async def test_weights_that_are_none_are_a_failure_of_the_learner(tmp_path: Path) -> None:
    source = LEARNER.replace("np.eye(len(total))[total.argmin()]", "np.full(len(total), np.nan)")
    with toy_package(tmp_path, "toy_nan", source, {"hedgespec.learners": {"nan": "leader"}}):
        plain, learned, stats = await answer(tmp_path / "config.yaml", "name: nan, objective: rounds")
    assert learned == plain
    assert stats.weights == {"near": 0.5, "far": 0.5}


def test_a_class_instead_of_a_factory_is_found_before_anything_starts(tmp_path: Path) -> None:
    with toy_package(tmp_path, "toy_class", LEARNER, {"hedgespec.learners": {"leading": "Leader"}}):
        (problem,) = check_sources(read_config(tmp_path / "config.yaml", "name: leading"))
    assert "is no factory" in problem


@pytest.mark.parametrize(
    ("attribute", "problem"),
    [
        ("Name", "calls itself 'other'"),
        ("Stage", "of stage 'somewhere'"),
        ("NotOne", "no subclass"),
        ("Half", "not complete"),
    ],
)
def test_a_sampling_parameter_that_cannot_be_served_is_found_before_anything_starts(
    tmp_path: Path, attribute: str, problem: str
) -> None:
    names = {"hedgespec.sampling": {"strange": attribute}}
    with toy_package(tmp_path, f"toy_strange_{attribute.lower()}", SAMPLING, names):
        parameters.cache_clear()
        problems = check_sources(read_config(tmp_path / "config.yaml", "name: adaptive"))
    parameters.cache_clear()
    assert len(problems) == 1
    assert problem in problems[0]


def test_a_sampling_parameter_cannot_take_a_field_of_the_request(tmp_path: Path) -> None:
    with toy_package(tmp_path, "toy_taken", SAMPLING, {"hedgespec.sampling": {"stream": "Stream"}}):
        parameters.cache_clear()
        with pytest.raises(ConfigError, match="'stream'"):
            with_sampling_parameters(CompletionBody)
    parameters.cache_clear()


def test_a_name_that_two_packages_register_is_refused(tmp_path: Path) -> None:
    """Which of them would serve must not depend on the order of paths."""
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    names = {"hedgespec.learners": {"twice": "leader"}}
    with (
        toy_package(tmp_path / "one", "toy_first", LEARNER, names),
        toy_package(tmp_path / "two", "toy_second", LEARNER, names),
        pytest.raises(ConfigError, match="registered twice"),
    ):
        LEARNERS.load("twice")


def test_a_package_that_cannot_be_imported_is_named(tmp_path: Path) -> None:
    with (
        toy_package(
            tmp_path, "toy_broken", "import a_module_that_is_not_there", {"hedgespec.learners": {"broken": "x"}}
        ),
        pytest.raises(ConfigError, match="'broken' cannot be loaded from 'toy_broken:x'"),
    ):
        LEARNERS.load("broken")
