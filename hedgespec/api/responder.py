"""`Responder` turns running generations into the HTTP answer: one JSON object, or a stream of events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import structlog
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from hedgespec.api.chunk_queue import ChunkQueue, PromptChunk
from hedgespec.api.context import ApiContext
from hedgespec.api.errors import as_request_error, error_object
from hedgespec.api.formats import Format, Json, speculation_report
from hedgespec.api.schemas import GenerationBody, StreamOptions
from hedgespec.api.sse import CLIENT_GONE, DONE, KEEP_ALIVE, ClientGone, EventStream, encode_event, unless_gone
from hedgespec.errors import RequestError, TargetUnavailable
from hedgespec.observability.logging import failure_fields
from hedgespec.types import FinishReason, GenerationChunk, GenerationRequest

_log = structlog.get_logger("hedgespec.api")


@dataclass(slots=True)
class _Answer:
    """The answer to one prompt, as far as it has come."""

    num_prompt_tokens: int
    num_tokens: int = 0
    texts: list[str] = field(default_factory=list)
    finish_reason: FinishReason | None = None
    report: Json | None = None
    num_cached_tokens: int | None = None
    num_pieces: int = 0
    last_chunk_at: float = 0.0

    def add(self, chunk: GenerationChunk) -> None:
        self.num_tokens += len(chunk.token_ids)
        self.texts.append(chunk.text)
        self.finish_reason = chunk.finish_reason
        if chunk.stats is not None:
            # Rounds that completed no character have no chunk; the generator's own count includes them.
            self.num_tokens = chunk.stats.num_emitted
            self.num_cached_tokens = chunk.stats.num_cached_tokens
            self.report = speculation_report(chunk.stats)


class Responder:
    """Answers one HTTP request: `_collect` makes the whole object, `_stream` the events."""

    def __init__(
        self,
        context: ApiContext,
        body: GenerationBody,
        form: Format,
        requests: Sequence[GenerationRequest],
        request_id: str,
    ) -> None:
        self._context = context
        self._body = body
        self._form = form
        self._requests = requests
        self._answers = [_Answer(len(r.prompt_ids)) for r in requests]
        self._request_id = request_id
        self._created = int(context.now())
        options = body.stream_options or StreamOptions()
        self._wants_continuous_usage = options.continuous_usage_stats
        self._wants_usage = options.include_usage or options.continuous_usage_stats

    async def respond(self, request: Request, work: AsyncExitStack) -> Response:
        """Run the generations and answer with the result, or with a stream of it.

        work: what is held for this request; a stream takes it over and closes it at its end
        """
        context = self._context
        for _ in self._requests:
            work.enter_context(context.metrics.running())
        queue = await work.enter_async_context(
            ChunkQueue(context.generator, self._requests, context.limits.request_timeout_s)
        )
        try:
            if not self._body.stream:
                return JSONResponse(await unless_gone(request.receive, self._collect(queue)))
            # The headers wait for the first chunk, so that what goes wrong before it is a proper HTTP error.
            first = await unless_gone(request.receive, queue.next())
        except ClientGone:
            return Response(status_code=CLIENT_GONE)
        return EventStream(self._stream(queue, first), work.pop_all())

    async def _collect(self, queue: ChunkQueue) -> Json:
        while not queue.is_finished:
            item = await queue.next()
            if item is not None:
                prompt_index, chunk = item
                self._answers[prompt_index].add(chunk)
        choices = [self._form.whole(i, "".join(a.texts), a.finish_reason) for i, a in enumerate(self._answers)]
        whole = self._object(self._form.whole_object, choices)
        whole["usage"] = self._usage()
        return self._with_report(whole)

    async def _stream(self, queue: ChunkQueue, first: PromptChunk | None) -> AsyncGenerator[bytes, None]:
        try:
            item = first
            while True:
                if item is None:
                    yield KEEP_ALIVE
                else:
                    piece = self._piece(item, queue.is_finished)
                    if piece is not None:
                        yield encode_event(piece)
                    if queue.is_finished:
                        break
                item = await queue.next(self._context.keep_alive_s)
        except Exception as error:
            yield encode_event(error_object(self._stream_error(error)))
            return  # without [DONE], which stands for a complete answer
        if self._wants_usage:
            usage = {**self._object(self._form.piece_object, []), "usage": self._usage()}
            yield encode_event(self._with_report(usage))
        yield DONE

    def _piece(self, item: PromptChunk, is_last: bool) -> Json | None:
        """Return the chunk's object; None for a chunk that has nothing to show."""
        prompt_index, chunk = item
        answer = self._answers[prompt_index]
        self._measure_gap(answer)
        answer.add(chunk)
        if not chunk.text and chunk.finish_reason is None:
            return None
        answer.num_pieces += 1
        answer.texts.clear()
        choice = self._form.piece(prompt_index, chunk.text, chunk.finish_reason, answer.num_pieces == 1)
        piece = self._object(self._form.piece_object, [choice])
        if self._wants_usage:
            piece["usage"] = self._usage() if self._wants_continuous_usage else None
        elif is_last:
            piece = self._with_report(piece)
        return piece

    def _measure_gap(self, answer: _Answer) -> None:
        now = asyncio.get_running_loop().time()
        if answer.last_chunk_at:
            self._context.metrics.observe_chunk_gap(now - answer.last_chunk_at)
        answer.last_chunk_at = now

    def _object(self, name: str, choices: list[Json]) -> Json:
        return {
            "id": f"{self._form.id_prefix}{self._request_id}",
            "object": name,
            "created": self._created,
            "model": self._context.model_name,
            "choices": choices,
        }

    def _usage(self) -> Json:
        prompt = sum(a.num_prompt_tokens for a in self._answers)
        answered = sum(a.num_tokens for a in self._answers)
        usage: Json = {"prompt_tokens": prompt, "completion_tokens": answered, "total_tokens": prompt + answered}
        cached = [a.num_cached_tokens for a in self._answers if a.num_cached_tokens is not None]
        if len(cached) == len(self._answers):  # known with the last chunk
            usage["prompt_tokens_details"] = {"cached_tokens": sum(cached)}
        return usage

    def _with_report(self, content: Json) -> Json:
        report = self._answers[0].report
        return {**content, "hedgespec": report} if self._body.hedgespec.report and report is not None else content

    def _stream_error(self, error: Exception) -> RequestError:
        known = as_request_error(error)
        if known.status == 500:
            _log.error("stream_failed", request_id=self._request_id, **failure_fields(error))
        if isinstance(error, TargetUnavailable):
            known.code = "upstream_unavailable"  # the answer had begun and could not be moved elsewhere
        return known
