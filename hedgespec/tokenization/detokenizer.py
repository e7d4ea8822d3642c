"""The detokenizer turns token ids into text that a stream may show without ever taking it back."""

from __future__ import annotations

import codecs
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hedgespec.tokenization.tokenizer import Tokenizer

_NUM_CONTEXT = 4
"""Word pieces decode differently at the start of a text (its leading space is stripped); this many before settle it."""


class Detokenizer:
    """Streaming inverse of the tokenizer, O(1) per token.

    The text of all pushes and of `finish` together is fixed by the ids alone, however they were cut into pushes. It
    equals `Tokenizer.decode` wherever the ids are valid UTF-8; bytes that are not become U+FFFD as soon as no later
    byte can complete them. Special tokens have no text.
    """

    def __init__(self, tokenizer: Tokenizer, context_ids: Iterable[int] = ()) -> None:
        """context_ids: the end of the prompt, so that the first word piece keeps its leading space."""
        self._tokenizer = tokenizer
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._context: deque[int] = deque(maxlen=_NUM_CONTEXT)
        self._context.extend(i for i in context_ids if self._is_word_piece(i))

    def push(self, token_ids: Iterable[int]) -> str:
        """Return the text that is complete now; half a character waits for the rest of its bytes."""
        return "".join([self._text(token_id) for token_id in token_ids])

    def finish(self) -> str:
        """Return what is left: U+FFFD for a character whose bytes never came, usually nothing."""
        return self._utf8.decode(b"", final=True)

    def _text(self, token_id: int) -> str:
        pieces = self._tokenizer.pieces
        if token_id in pieces.special or not 0 <= token_id <= pieces.largest_id:
            return ""  # ids above the tokenizer's are padded rows of the model's vocabulary
        raw = pieces.raw[token_id]
        if raw is not None:
            return self._utf8.decode(raw)
        return self.finish() + self._word_piece_text(token_id)

    def _word_piece_text(self, token_id: int) -> str:
        decode = self._tokenizer.backend.decode
        before = list(self._context)
        self._context.append(token_id)
        return decode([*before, token_id])[len(decode(before)) :]

    def _is_word_piece(self, token_id: int) -> bool:
        pieces = self._tokenizer.pieces
        known = 0 <= token_id <= pieces.largest_id and token_id not in pieces.special
        return known and pieces.raw[token_id] is None
