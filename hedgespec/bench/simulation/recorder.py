"""Decode held-out prompts once and record how every drafter would have fared, by position and depth.

The text does not depend on which drafter is used, so one decode measures all drafters. This module uses the Protocols
only: any fleet can be recorded, the zoo in one process as well as tabular models in a test.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hedgespec.bench.simulation.recording import Recording
from hedgespec.errors import HedgeSpecError
from hedgespec.protocols import Drafter, Fleet, Target
from hedgespec.router.stopping import find_ending
from hedgespec.types import (
    EMPTY_DRAFT,
    DraftRequest,
    Observation,
    SamplingParams,
    SessionSpec,
    SparseRows,
    Verdict,
)

NUM_TARGET_TOP = 64
"""The target's top ids per position, as the router requests them; the rest of sum min(p, q) is estimated without bias."""

NUM_PROMPT_SCORES = 64

NUM_CONCURRENT = 4
"""Answers decoded at the same time: a pass over a batch is cheaper than several passes, also on a CPU."""


Rows = dict[str, NDArray[Any]]
"""field of `Recording` -> one answer's part of it"""


@dataclass(frozen=True, slots=True)
class Job:
    """One answer to record. drafter: index of the drafter to decode with; the text's distribution does not depend on it."""

    domain: str
    temperature: float
    prompt_ids: NDArray[np.int32]
    drafter: int
    noise_seed: int


async def record(
    fleet: Fleet,
    prompts: Mapping[str, Sequence[NDArray[np.int32]]],
    temperatures: Sequence[float],
    max_draft_tokens: int,
    max_tokens: int,
    advance: Callable[[], None],
    seed: int = 0,
) -> Recording:
    """Record every prompt at every temperature; a domain is decoded with the drafter of the same name when there is one.

    advance: called after every answer (progress bar). The same seed gives the same texts, up to rounding when answers are
    batched differently. Raises HedgeSpecError when a drafter leaves a score out.
    """
    drafters = fleet.drafters()
    names = list(drafters)
    jobs = [
        Job(domain, temperature, prompt_ids, names.index(domain) if domain in names else 0, noise_seed(seed, t, d, k))
        for t, temperature in enumerate(temperatures)
        for d, (domain, domain_prompts) in enumerate(prompts.items())
        for k, prompt_ids in enumerate(domain_prompts)
    ]
    room = asyncio.Semaphore(NUM_CONCURRENT)

    async def one(job: Job) -> Rows:
        async with room, fleet.lease_target() as target:
            rows = await _record_answer(target, list(drafters.values()), job, max_draft_tokens, max_tokens)
            advance()
            return rows

    answers = await asyncio.gather(*(one(job) for job in jobs))
    return Recording(
        drafter_ids=np.array(names),
        domains=np.array([job.domain for job in jobs]),
        temperatures=np.array([job.temperature for job in jobs]),
        **{field: np.stack([rows[field] for rows in answers]) for field in answers[0]},
    )


def noise_seed(*key: int) -> int:
    """Return the noise seed of an answer from the recording's seed and the answer's indices."""
    return int(np.random.default_rng(key).integers(2**63))


async def _record_answer(
    target: Target, drafters: Sequence[Drafter], job: Job, max_draft_tokens: int, max_tokens: int
) -> Rows:
    spec = SessionSpec(
        session_id=f"decode-{job.noise_seed}",
        prompt_ids=job.prompt_ids,
        emitted_ids=np.zeros(0, np.int32),
        sampling=SamplingParams(temperature=job.temperature, max_tokens=max_tokens, ignore_eos=True),
        noise_seed=job.noise_seed,
        max_draft_tokens=max_draft_tokens,
        num_target_top=NUM_TARGET_TOP,
        score_depth="exact",
        num_prompt_scores=min(NUM_PROMPT_SCORES, len(job.prompt_ids) - 1),
    )
    decoded = await decode_answer(target, drafters[job.drafter], spec)
    spec = replace(spec, session_id=f"score-{job.noise_seed}")
    return await score_answer(target, drafters, spec, decoded.answer, decoded.prompt_top)


@dataclass(frozen=True, slots=True)
class Decoded:
    """An answer as one observation, the target passes that it took, and the target's top ids on the prompt."""

    answer: Observation
    num_passes: int
    prompt_top: SparseRows | None


async def decode_answer(
    target: Target, drafter: Drafter, spec: SessionSpec, end_token_ids: frozenset[int] = frozenset()
) -> Decoded:
    """Decode an answer with one drafter, up to its first end token."""
    verdicts: list[Verdict] = []
    num_emitted, is_over = 0, False
    try:
        await drafter.open(replace(spec, num_prompt_scores=0))
        opened = await target.open(replace(spec, feature_sinks=_sinks([drafter])))
        while num_emitted < spec.sampling.max_tokens and not is_over:
            num_draft_tokens = min(spec.max_draft_tokens, spec.sampling.max_tokens - num_emitted - 1)
            tree = EMPTY_DRAFT
            if num_draft_tokens > 0:
                tree = await drafter.draft(DraftRequest(spec.session_id, len(verdicts), num_draft_tokens))
            verdict = await target.verify(spec.session_id, len(verdicts), tree)
            ending = find_ending(verdict.token_ids.tolist(), num_emitted, spec.sampling, end_token_ids)
            is_over = ending.finish_reason == "stop"
            if is_over:
                kept = slice(ending.num_tokens)
                verdict = replace(verdict, token_ids=verdict.token_ids[kept], target_probs=verdict.target_probs[kept])
            observation = Observation(num_emitted, verdict.token_ids, verdict.target_probs, wants_scores=False)
            await drafter.observe(spec.session_id, len(verdicts), observation)
            verdicts.append(verdict)
            num_emitted += len(verdict.token_ids)
    finally:
        await asyncio.gather(target.close(spec.session_id), drafter.close(spec.session_id))
    # rows of the top ids after an end token come last, and there may be more of them than tokens
    answer = Observation(
        start=0,
        token_ids=np.concatenate([verdict.token_ids for verdict in verdicts]),
        target_probs=np.concatenate([verdict.target_probs for verdict in verdicts]),
        target_top=_joined([verdict.target_top for verdict in verdicts if verdict.target_top is not None]),
    )
    return Decoded(answer, len(verdicts), opened.prompt_top)


async def score_answer(
    target: Target,
    drafters: Sequence[Drafter],
    spec: SessionSpec,
    answer: Observation,
    prompt_top: SparseRows | None,
) -> Rows:
    """Score the whole answer with every drafter at once: a few passes over all positions instead of some per round."""
    prompt_overlap = np.full((len(drafters), NUM_PROMPT_SCORES), np.nan, np.float32)
    try:
        await asyncio.gather(*(drafter.open(spec) for drafter in drafters))
        # as after a fail-over: the target prefills prompt and answer and pushes the features of both
        prefilled = replace(spec, emitted_ids=answer.token_ids, feature_sinks=_sinks(drafters), num_prompt_scores=0)
        await target.open(prefilled)
        if prompt_top is not None and prompt_top.num_rows:
            for index, drafter in enumerate(drafters):
                overlap = await drafter.score_prompt(spec.session_id, prompt_top)
                prompt_overlap[index, -len(overlap) :] = overlap
        scores = await asyncio.gather(*(drafter.observe(spec.session_id, 0, answer) for drafter in drafters))
    finally:
        await asyncio.gather(target.close(spec.session_id), *(drafter.close(spec.session_id) for drafter in drafters))
    shape = len(answer.token_ids), spec.max_draft_tokens
    acceptance, acceptance_prob = [], []
    for drafter, own in zip(drafters, scores, strict=True):
        if own is None or own.acceptance_prob is None or len(own.acceptance) != len(answer.token_ids):
            raise HedgeSpecError(f"Drafter {drafter.drafter_id!r} left scores out; a recording needs all of them.")
        acceptance.append(np.broadcast_to(own.acceptance, shape))
        # the estimate from a few ids can exceed 1, which is right for a loss and stays
        acceptance_prob.append(np.broadcast_to(own.acceptance_prob, shape))
    return {
        "acceptance": np.stack(acceptance),
        "acceptance_prob": np.stack(acceptance_prob),
        "prompt_overlap": prompt_overlap,
        "token_ids": answer.token_ids,
        "target_probs": answer.target_probs,
    }


def _joined(parts: Sequence[SparseRows]) -> SparseRows:
    sizes = np.concatenate([np.diff(part.offsets) for part in parts])
    return SparseRows(
        offsets=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32),
        ids=np.concatenate([part.ids for part in parts]),
        probs=np.concatenate([part.probs for part in parts]),
    )


def _sinks(drafters: Sequence[Drafter]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(drafter.feature_sink for drafter in drafters if drafter.feature_sink))
