"""A recording of tabular models, replayed, against real decodes of the same models through the decode loop."""

from __future__ import annotations

import numpy as np
import pytest

from hedgespec.assembly.local_service import LocalFleet, local_service, open_local_fleet
from hedgespec.bench.answers import measure_answer
from hedgespec.bench.simulation.hindsight import fixed_passes
from hedgespec.bench.simulation.recorder import record
from hedgespec.bench.simulation.recording import Recording
from hedgespec.config import AppArgs
from hedgespec.models.tabular import TabularDrafter, TabularModel, TabularTarget
from hedgespec.types import Opened, SamplingParams, SessionSpec, SparseRows

ARGS = AppArgs.model_validate(
    {
        "target": {"model": "tabular:7"},
        "drafters": [
            {"id": "near", "kind": "tabular", "model": "tabular:1,closeness=0.95"},
            {"id": "far", "kind": "tabular", "model": "tabular:2,closeness=0.4"},
            {"id": "ngram", "kind": "ngram"},
        ],
        "speculation": {"max_draft_tokens": 3},
        "store": {"url": "memory://"},
    }
)
MODEL = TabularModel(vocab_size=9, seed=3)
PROMPTS = {
    "near": [np.array([3, 1, 4, 1, 5], np.int32), np.array([2, 7, 1, 8], np.int32)],
    "other": [np.array([1, 1], np.int32)],
}


async def recorded(temperature: float, num_tokens: int, prompts: dict[str, list[np.ndarray]] = PROMPTS) -> Recording:
    async with open_local_fleet(ARGS) as fleet:
        return await record(fleet, prompts, [temperature], 3, num_tokens, lambda: None)


@pytest.mark.parametrize("drafter", ["near", "far", "ngram"])
async def test_at_temperature_0_a_recording_gives_the_passes_of_a_real_decode(drafter: str) -> None:
    """Passes and text are those of the decode loop with that drafter pinned, exactly, for every prompt."""
    recording = await recorded(0.0, 60)
    passes = fixed_passes(recording.acceptance)[:, recording.drafter_ids.tolist().index(drafter)]
    prompts = [prompt for own in PROMPTS.values() for prompt in own]
    async with local_service(ARGS) as local:
        for index, prompt in enumerate(prompts):
            sampling = SamplingParams(temperature=0.0, max_tokens=60, ignore_eos=True)
            answer = await measure_answer(local.service, prompt, sampling, drafter)
            assert answer.stats.num_rounds == pytest.approx(passes[index], abs=1e-9)
            assert answer.text == local.tokenizer.decode(recording.token_ids[index].tolist())
    assert 15 < passes.min() < 60


async def test_at_temperature_1_a_recording_gives_the_mean_passes_of_real_decodes() -> None:
    """Means over texts of their own; 4.5 standard errors of the difference for each of two drafters are exceeded by chance
    once in 70,000 runs. The recording's seed is fixed, the served requests draw theirs."""
    num_copies, num_tokens = 60, 24
    prompt = PROMPTS["other"][0]
    recording = await recorded(1.0, num_tokens, {"other": [prompt] * num_copies})
    async with local_service(ARGS) as local:
        for drafter in ("near", "far"):
            estimates = fixed_passes(recording.acceptance)[:, recording.drafter_ids.tolist().index(drafter)]
            sampling = SamplingParams(temperature=1.0, max_tokens=num_tokens, ignore_eos=True)
            answers = [await measure_answer(local.service, prompt, sampling, drafter) for _ in range(num_copies)]
            passes = np.array([answer.stats.num_rounds for answer in answers], dtype=np.float64)
            error = np.sqrt((estimates.var(ddof=1) + passes.var(ddof=1)) / num_copies)
            assert abs(estimates.mean() - passes.mean()) < 4.5 * error
            assert error < 0.7


async def test_recording_is_reproducible_and_complete() -> None:
    """The same seed records the same texts and numbers, at any temperature, and every entry is a probability."""
    first, again = await recorded(1.0, 24), await recorded(1.0, 24)
    assert np.array_equal(first.token_ids, again.token_ids)
    assert np.array_equal(first.acceptance, again.acceptance)
    assert ((first.acceptance >= 0.0) & (first.acceptance <= 1.0)).all()
    assert ((first.target_probs > 0.0) & (first.target_probs <= 1.0)).all()
    assert first.acceptance.shape == (3, 3, 24, 3) == first.acceptance_prob.shape


class PromptTopTarget(TabularTarget):
    """An exact target that also returns the whole distribution at each of the last prompt tokens."""

    async def open(self, spec: SessionSpec) -> Opened:
        await super().open(spec)
        num_prompt = len(spec.prompt_ids)
        rows = [
            MODEL.probs(spec.prompt_ids[:k].tolist()) for k in range(num_prompt - spec.num_prompt_scores, num_prompt)
        ]
        probs = np.concatenate(rows or [np.zeros(0)]).astype(np.float32)
        ids = np.tile(np.arange(MODEL.vocab_size, dtype=np.int32), len(rows))
        return Opened(prompt_top=SparseRows(np.arange(len(rows) + 1, dtype=np.int32) * MODEL.vocab_size, ids, probs))


async def test_prompt_scores_are_recorded_with_the_last_token_last() -> None:
    """A drafter that equals the target overlaps fully wherever it is asked; another one is below; shorter prompts are empty
    in front."""
    drafters = {"same": TabularDrafter("same", MODEL), "far": TabularDrafter("far", MODEL.related(0.3, 5))}
    fleet = LocalFleet(PromptTopTarget(MODEL), drafters, max_leases=4, lease_wait_s=5.0)
    recording = await record(fleet, PROMPTS, [1.0], 3, 12, lambda: None)
    for overlap, prompt in zip(recording.prompt_overlap, [p for own in PROMPTS.values() for p in own], strict=True):
        known = np.isfinite(overlap).all(axis=0)
        assert known.sum() == len(prompt) - 1
        assert known[-1]
        assert np.allclose(overlap[0, known], 1.0, atol=1e-5)
        assert (overlap[1, known] < 0.95).all()
