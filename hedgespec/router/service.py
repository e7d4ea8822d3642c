"""The generation service streams the text of a validated request and adds its statistics to the tenant's preferences."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace

from hedgespec.config import AppArgs
from hedgespec.errors import RequestError
from hedgespec.protocols import Fleet
from hedgespec.router.accounting import AnswerAccount
from hedgespec.router.answer import Answer, AnswerMaker, preference_id
from hedgespec.router.events import Events
from hedgespec.router.stopping import StopStrings
from hedgespec.store.preferences import Preferences
from hedgespec.store.record import AnswerOutcome
from hedgespec.tokenization import Detokenizer, Tokenizer
from hedgespec.types import DecodeStats, GenerationChunk, GenerationRequest, RoundReport


class GenerationService:
    """Implements `protocols.Generator` over any fleet, local or remote.

    target_id: name + weight digest of the target, part of every preference key
    """

    def __init__(
        self,
        args: AppArgs,
        fleet: Fleet,
        tokenizer: Tokenizer,
        preferences: Preferences,
        events: Events,
        target_id: str,
    ) -> None:
        self._drafter_ids = [drafter.id for drafter in args.drafters]
        self._tokenizer = tokenizer
        self._preferences = preferences
        self._events = events
        self._answers = AnswerMaker(args, fleet, preferences, events, target_id, frozenset(tokenizer.eos_token_ids))
        self._finishing: set[asyncio.Task[None]] = set()

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[GenerationChunk, None]:
        started = time.perf_counter()
        self._check(request)
        answer = await self._answers.make(request)
        account = AnswerAccount(len(request.prompt_ids), started)
        detokenizer = Detokenizer(self._tokenizer, request.prompt_ids[-16:].tolist())
        stop = StopStrings(request.sampling.stop)
        try:
            async with aclosing(answer.loop.rounds()) as reports:
                async for report in reports:
                    account.add(report)
                    self._events.observe_round(report)
                    chunk = self._chunk(report, detokenizer, stop)
                    if chunk.finish_reason is not None:
                        yield self._last_chunk(chunk, account, answer)
                        return
                    if chunk.text:
                        yield chunk
        finally:
            self._finish(answer, account)

    async def drain(self) -> None:
        """Wait until the last answers' statistics are recorded."""
        if self._finishing:
            await asyncio.gather(*self._finishing, return_exceptions=True)

    def _check(self, request: GenerationRequest) -> None:
        num_prompt, max_tokens = len(request.prompt_ids), request.sampling.max_tokens
        limit = self._tokenizer.max_model_len
        if num_prompt + max_tokens > limit:
            raise RequestError(
                f"This model's context is {limit} tokens; the prompt has {num_prompt} and max_tokens is {max_tokens}. "
                "Shorten the prompt or lower max_tokens.",
                code="context_length_exceeded",
                param="max_tokens",
            )
        if request.drafter not in (None, "none", "random", *self._drafter_ids):
            raise RequestError(
                f"No such drafter. Configured: {', '.join(self._drafter_ids)}; 'none' turns speculation off, 'random' "
                "draws one in every round.",
                code="unknown_drafter",
                param="hedgespec.drafter",
            )

    def _chunk(self, report: RoundReport, detokenizer: Detokenizer, stop: StopStrings) -> GenerationChunk:
        """The text of one round. An end token is part of the answer's ids but never of its text."""
        ids: Sequence[int] = report.token_ids.tolist()
        shown = ids[:-1] if report.finish_reason == "stop" else ids
        finish_reason = report.finish_reason
        text, met = "", False
        for count, token in enumerate(shown, start=1):
            piece, met = stop.push(detokenizer.push([token]))
            text += piece
            if met:
                ids, finish_reason = ids[:count], "stop"
                break
        if finish_reason is not None and not met:
            piece, met = stop.push(detokenizer.finish())
            text += piece if met else piece + stop.flush()
            finish_reason = "stop" if met else finish_reason
        return GenerationChunk(text, tuple(ids), finish_reason)

    def _last_chunk(self, chunk: GenerationChunk, account: AnswerAccount, answer: Answer) -> GenerationChunk:
        assert chunk.finish_reason is not None
        stats = account.close(answer, len(chunk.token_ids))
        seconds = time.perf_counter() - account.started
        self._events.observe_request(stats, chunk.finish_reason, seconds, account.ttft_s)
        return replace(chunk, stats=stats)

    def _finish(self, answer: Answer, account: AnswerAccount) -> None:
        """Collect late scores, free the drafters and add the answer to the preferences, all in the background."""
        task = asyncio.ensure_future(self._settle(answer, account.stats))
        self._finishing.add(task)
        task.add_done_callback(self._finishing.discard)

    async def _settle(self, answer: Answer, stats: DecodeStats) -> None:
        live = {d.drafter_id: d for d in answer.panel.drafters if d is not None}
        answer.loop.score_rest()
        await answer.panel.close()
        if answer.learning is None:
            return
        answer.learning.finish()
        if answer.learning.failure is not None:
            self._events.learning_failed(answer.learning.failure)
            return
        if answer.preference_key is None or stats.num_emitted == 0:
            return
        stats.expected_passes = answer.expected_passes()
        passes = {preference_id(live.get(d), d): p for d, p in stats.expected_passes.items()}
        costs = dict(
            zip(
                (preference_id(live.get(d), d) for d in answer.drafter_ids),
                answer.learning.pass_costs().tolist(),
                strict=True,
            )
        )
        # passes are over all verified tokens, those included that a stop string cut off or the caller did not wait for
        outcome = AnswerOutcome(passes, answer.loop.num_emitted, answer.learning.num_conceded(), costs)
        self._preferences.record(answer.preference_key, outcome)
