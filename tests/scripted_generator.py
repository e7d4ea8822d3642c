"""A Generator that yields what a test gives it: for tests of clients and of the HTTP layer, with no model behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field, replace

from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers

from hedgespec.tokenization import Tokenizer
from hedgespec.tokenization.chat_template import ChatTemplate
from hedgespec.types import DecodeStats, FinishReason, GenerationChunk, GenerationRequest

_TEMPLATE = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>"


@dataclass(slots=True)
class ScriptedGenerator:
    """Yields `pieces` as chunks of one token each, as many as max_tokens allows.

    error: raised before the piece number `error_at`. delay_s: before every piece. requests, num_open, num_closed: what
    happened, for assertions.
    """

    pieces: Sequence[str] = ("Hello", ",", " world")
    delay_s: float = 0.0
    error: Exception | None = None
    error_at: int = 0
    stats: DecodeStats = field(default_factory=DecodeStats)
    requests: list[GenerationRequest] = field(default_factory=list)
    num_open: int = 0
    num_closed: int = 0

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[GenerationChunk, None]:
        self.requests.append(request)
        self.num_open += 1
        try:
            shown = self.pieces[: request.sampling.max_tokens]
            for number, text in enumerate(shown):
                await asyncio.sleep(self.delay_s)
                if self.error is not None and number == self.error_at:
                    raise self.error
                is_last = number == len(shown) - 1
                yield self._last(request, text, len(shown)) if is_last else GenerationChunk(text, (number,))
        finally:
            self.num_open -= 1
            self.num_closed += 1

    def _last(self, request: GenerationRequest, text: str, num_emitted: int) -> GenerationChunk:
        stats = replace(self.stats, num_prompt_tokens=len(request.prompt_ids), num_emitted=num_emitted)
        reason: FinishReason = "length" if num_emitted == request.sampling.max_tokens else "stop"
        return GenerationChunk(text, (num_emitted - 1,), finish_reason=reason, stats=stats)


def byte_tokenizer(max_model_len: int = 256) -> Tokenizer:
    """One token per byte; the id after the last byte ends an answer."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Backend(models.BPE({c: i for i, c in enumerate(alphabet)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(["<|end|>"])
    end = len(alphabet)
    return Tokenizer.of(
        backend,
        eos_token_ids=(end,),
        max_model_len=max_model_len,
        vocab_size=end + 1,
        chat_template=ChatTemplate(_TEMPLATE, {}),
    )
