"""Our own ways of decoding as arms: plain, the best single drafter and learned selection, in this process or on a server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from hedgespec.bench.answers import LEARNED, PLAIN
from hedgespec.bench.peers.contract import Answer, Batch
from hedgespec.errors import HedgeSpecError, PeerUnavailable
from hedgespec.protocols import Generator
from hedgespec.types import GenerationRequest, SamplingParams

OURS, SERVER = "hedgespec", "server"
TRIAL_TOKENS = 64


def own_name(place: str, arm: str) -> str:
    return f"{place} {arm}"


class OwnArm:
    """Implements `contract.Arm` by a generator of ours.

    drafter: as in `GenerationRequest`. settle: called after every batch, outside of its time: late scores end there
    """

    def __init__(
        self,
        name: str,
        bits: str,
        max_at_once: int,
        generator: Generator,
        drafter: str | None,
        end_ids: Sequence[int],
        settle: Callable[[], Awaitable[None]],
    ) -> None:
        self.name, self.bits, self.max_at_once = name, bits, max_at_once
        self._generator, self._drafter, self._end_ids, self._settle = generator, drafter, frozenset(end_ids), settle

    async def decode(self, prompts: Sequence[NDArray[np.int32]], max_tokens: int) -> Batch:
        """Implements `contract.Arm.decode`."""
        sampling = SamplingParams(temperature=0.0, max_tokens=max_tokens)
        started = time.perf_counter()
        try:
            answers = await asyncio.gather(*(self._answer(prompt, sampling) for prompt in prompts))
        except HedgeSpecError as error:
            raise PeerUnavailable(str(error)) from error
        seconds = time.perf_counter() - started
        await self._settle()
        return Batch(tuple(answer for answer, _ in answers), sum(count for _, count in answers), seconds)

    async def close(self) -> None:
        """Do nothing: whoever made the generator stops it."""

    async def _answer(self, prompt_ids: NDArray[np.int32], sampling: SamplingParams) -> tuple[Answer, int]:
        """Return the answer and its number of tokens without the one that ended it."""
        request = GenerationRequest(
            request_id=uuid4().hex,
            tenant="default",
            prompt_ids=prompt_ids,
            sampling=sampling,
            drafter=self._drafter,
            scope=uuid4().hex,
        )
        started = time.perf_counter()
        token_ids: list[int] = []
        text, num_tokens, first_token_s = "", 0, float("nan")
        async with aclosing(self._generator.generate(request)) as chunks:
            async for chunk in chunks:
                if np.isnan(first_token_s):
                    first_token_s = time.perf_counter() - started
                text += chunk.text
                token_ids += chunk.token_ids
                if chunk.finish_reason is not None and chunk.stats is not None:
                    num_tokens = chunk.stats.num_emitted - (chunk.finish_reason == "stop")
        shown = tuple(token for token in token_ids if token not in self._end_ids)
        return Answer(shown, time.perf_counter() - started, first_token_s, text), num_tokens


async def best_single(
    arms: Sequence[OwnArm], prompts: Sequence[NDArray[np.int32]], advance: Callable[[], None]
) -> OwnArm | None:
    """Return the arm with the most tokens/s in a trial of TRIAL_TOKENS tokens on each prompt; None without arms."""
    rates = {}
    for arm in arms:
        batches = [await arm.decode([prompt], TRIAL_TOKENS) for prompt in prompts]
        rates[arm] = sum(batch.num_tokens for batch in batches) / sum(batch.seconds for batch in batches)
        advance()
    return max(rates, key=lambda arm: rates[arm], default=None)


def drafter_of(arm: str) -> str | None:
    """Return the drafter that an arm's name asks for, as in `GenerationRequest`."""
    return {PLAIN: "none", LEARNED: None}.get(arm, arm)
