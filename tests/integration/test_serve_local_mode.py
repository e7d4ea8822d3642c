"""The builder's whole application in one process (Serve's local testing mode), with real gRPC between its parts."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator

import numpy as np
import pytest
from ray import serve
from ray.serve.handle import DeploymentHandle

from deployments.app import build
from hedgespec.assembly.model_sources import load_tokenizer, open_target
from hedgespec.config import AppArgs, DrafterConfig, StoreConfig, TargetConfig
from hedgespec.engine.local import LocalFeatureTransport
from hedgespec.types import EMPTY_DRAFT, GenerationRequest, SamplingParams, SessionSpec

# local testing mode never runs the replicas' destructors: their gRPC servers end with the garbage collector
pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning", "ignore::RuntimeWarning"
)

TARGET = TargetConfig(model="tabular:3", model_name="toy")
ARGS = AppArgs(
    target=TARGET,
    drafters=(
        DrafterConfig(id="near", kind="tabular", model="tabular:1,closeness=0.8"),
        DrafterConfig(id="far", kind="tabular", model="tabular:2,closeness=0.1", group="others"),
        DrafterConfig(id="ngram", kind="ngram", group="others"),
    ),
    store=StoreConfig(url="memory://"),
)
PROMPT = load_tokenizer(TARGET).encode("hello ")


@pytest.fixture(scope="module")
def router() -> Iterator[DeploymentHandle]:
    yield serve.run(build(ARGS), name="local", _local_testing_mode=True)
    gc.collect()


def generate(router: DeploymentHandle, sampling: SamplingParams, drafter: str | None = None) -> list[int]:
    request = GenerationRequest("0" * 32, "default", PROMPT, sampling, drafter=drafter)
    chunks = list(router.options(stream=True).generate.remote(request))
    assert chunks[-1].finish_reason == "length"
    return [token for chunk in chunks for token in chunk.token_ids]


def target_alone(sampling: SamplingParams) -> list[int]:
    target = open_target(TARGET, LocalFeatureTransport())
    noise_seed = 0 if sampling.seed is None else sampling.seed
    spec = SessionSpec("s", PROMPT, np.zeros(0, np.int32), sampling, noise_seed, 5)

    async def decode() -> list[int]:
        await target.open(spec)
        return [int((await target.verify("s", i, EMPTY_DRAFT)).token_ids[-1]) for i in range(sampling.max_tokens)]

    return asyncio.run(decode())


@pytest.mark.parametrize("drafter", [None, "near", "far", "ngram", "none"])
def test_the_application_writes_the_targets_own_text(router: DeploymentHandle, drafter: str | None) -> None:
    """Builder, handles, leases, gRPC, learner: greedy and seeded ids equal plain decoding."""
    for sampling in (SamplingParams(temperature=0.0, max_tokens=40), SamplingParams(seed=4, max_tokens=40)):
        assert generate(router, sampling, drafter) == target_alone(sampling)
