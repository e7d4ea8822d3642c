"""The two formats of an answer, completions and chat, whole and in pieces."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from hedgespec.types import FinishReason

Json = dict[str, Any]


class Format(Protocol):
    """One endpoint's way to write an answer.

    source: the parameter that holds the prompt. whole_object, piece_object: the `object` field. id_prefix: before our
    request id.
    """

    @property
    def source(self) -> str: ...

    @property
    def whole_object(self) -> str: ...

    @property
    def piece_object(self) -> str: ...

    @property
    def id_prefix(self) -> str: ...

    def whole(self, index: int, text: str, finish_reason: FinishReason) -> Json:
        """Return one entry of `choices` of a complete answer."""
        ...

    def piece(self, index: int, text: str, finish_reason: FinishReason | None, is_first: bool) -> Json:
        """Return one entry of `choices` of a streamed chunk."""
        ...


@dataclass(frozen=True, slots=True)
class CompletionFormat:
    source: str = "prompt"
    whole_object: str = "text_completion"
    piece_object: str = "text_completion"
    id_prefix: str = "cmpl-"

    def whole(self, index: int, text: str, finish_reason: FinishReason) -> Json:
        return {"index": index, "text": text, "logprobs": None, "finish_reason": finish_reason}

    def piece(self, index: int, text: str, finish_reason: FinishReason | None, is_first: bool) -> Json:
        return {"index": index, "text": text, "logprobs": None, "finish_reason": finish_reason}


@dataclass(frozen=True, slots=True)
class ChatFormat:
    source: str = "messages"
    whole_object: str = "chat.completion"
    piece_object: str = "chat.completion.chunk"
    id_prefix: str = "chatcmpl-"

    def whole(self, index: int, text: str, finish_reason: FinishReason) -> Json:
        message = {"role": "assistant", "content": text, "refusal": None}
        return {"index": index, "message": message, "logprobs": None, "finish_reason": finish_reason}

    def piece(self, index: int, text: str, finish_reason: FinishReason | None, is_first: bool) -> Json:
        # The role comes with the first text, never before it: clients take the first chunk for the first token.
        delta = {"role": "assistant", "content": text} if is_first else {"content": text} if text else {}
        return {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
