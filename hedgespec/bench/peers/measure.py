"""Measure arms side by side: on every prompt they take turns, so that a noisy machine is noisy for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from itertools import chain, zip_longest

import numpy as np
from numpy.typing import NDArray

from hedgespec.bench.answers import rotated
from hedgespec.bench.peers.contract import Arm, Batch
from hedgespec.bench.peers.report import PeersReport
from hedgespec.errors import PeerUnavailable

Prompts = Mapping[str, Sequence[NDArray[np.int32]]]
"""category -> prompts as token ids"""

WARM_UP_TOKENS = 16
SETTLE_S = 0.25
"""Idle threads of OpenMP and BLAS keep spinning for up to 0.2 s after their last work."""


async def measure_peers(
    arms: Sequence[Arm],
    prompts: Prompts,
    levels: Sequence[int],
    max_tokens: int,
    skipped: Mapping[str, str],
    advance: Callable[[], None],
) -> PeersReport:
    """Decode all prompts by every arm, at every number of answers at once that the arm can.

    An arm that fails is left out from there on, with its reason. skipped: arms that could not even start, with theirs.
    advance: called `num_batches` times, or less often when an arm fails. Closes no arm.
    """
    report = PeersReport(max_tokens, {arm.name: arm.bits for arm in arms}, dict(skipped))
    working = list(arms)
    for level in levels:
        groups = grouped(prompts, level)
        able = [arm for arm in working if arm.max_at_once >= level]
        for arm in able:
            await _decode(arm, groups[0][1], min(WARM_UP_TOKENS, max_tokens), report)
        for number, (category, group) in enumerate(groups):
            for arm in rotated(able, number):
                if arm.name in report.skipped:
                    continue
                batch = await _decode(arm, group, max_tokens, report)
                if batch is not None:
                    report.add(level, arm.name, category, batch)
                advance()
        working = [arm for arm in working if arm.name not in report.skipped]
    return report


def grouped(prompts: Prompts, level: int) -> list[tuple[str, list[NDArray[np.int32]]]]:
    """Return (category, prompts to decode at once): single prompts of a category, or `level` prompts of mixed ones.

    A last group that is too small is filled from the beginning.
    """
    labelled = [[(category, prompt) for prompt in row] for category, row in prompts.items()]
    in_turn = [item for item in chain.from_iterable(zip_longest(*labelled)) if item is not None]
    if level == 1:
        return [(category, [prompt]) for category, prompt in in_turn]
    size = -(-len(in_turn) // level) * level
    filled = [in_turn[index % len(in_turn)][1] for index in range(size)]
    return [("mixed", filled[start : start + level]) for start in range(0, size, level)]


def num_batches(arms: Sequence[Arm], prompts: Prompts, levels: Sequence[int]) -> int:
    """Return how many batches `measure_peers` decodes, warming up aside."""
    return sum(len(grouped(prompts, level)) for level in levels for arm in arms if arm.max_at_once >= level)


async def _decode(arm: Arm, group: Sequence[NDArray[np.int32]], max_tokens: int, report: PeersReport) -> Batch | None:
    """Decode with one arm after a pause; None when it failed, which the report then says."""
    await asyncio.sleep(SETTLE_S)
    try:
        return await arm.decode(group, max_tokens)
    except PeerUnavailable as error:
        report.drop(arm.name, str(error))
        return None
