"""Token ids of a fixed tiny model: a change of sampling, noise or positions shows up here first."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hedgespec.config import TargetConfig
from hedgespec.engine.factory import build_target
from hedgespec.engine.local import LocalFeatureTransport
from hedgespec.types import SamplingParams
from tests.engine_sessions import decode, make_spec
from tests.model_folders import make_llama

PROMPT = np.array([3, 1, 4, 1, 5, 9, 2, 6], np.int32)
GOLDEN = {
    "greedy": (SamplingParams(temperature=0.0), [21, 21, 21, 89, 86, 92, 33, 43, 28, 21, 21, 80, 48, 21, 6, 21]),
    "coupled": (
        SamplingParams(temperature=1.0, seed=42),
        [5, 59, 5, 89, 80, 88, 45, 28, 58, 72, 26, 89, 46, 74, 41, 21],
    ),
    "coupled, shaped": (
        SamplingParams(temperature=0.7, top_p=0.9, top_k=20, seed=42, frequency_penalty=0.5, logit_bias=((7, 3.0),)),
        [5, 59, 5, 89, 47, 48, 27, 56, 7, 81, 91, 21, 74, 74, 41, 7],
    ),
    "rejection": (SamplingParams(temperature=1.0), [60, 66, 86, 30, 8, 21, 74, 18, 29, 34, 2, 60, 64, 3, 48, 48]),
}


@pytest.mark.parametrize("name", GOLDEN)
async def test_a_fixed_seed_gives_the_golden_ids(name: str, tmp_path: Path) -> None:
    sampling, expected = GOLDEN[name]
    target = build_target(TargetConfig(model=str(make_llama(tmp_path))), LocalFeatureTransport())
    try:
        assert await decode(target, make_spec(PROMPT, sampling=sampling, noise_seed=42), 16) == expected
    finally:
        target.stop()
