"""The detokenizer turns token ids into text that a stream may show without ever taking it back."""

from __future__ import annotations

import codecs
import json
import re
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import tokenizers
from tokenizers.pre_tokenizers import ByteLevel

from hedgespec.errors import ModelFolderError

if TYPE_CHECKING:
    from hedgespec.tokenization.tokenizer import Tokenizer

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")

_NUM_CONTEXT = 4
"""Word pieces decode differently at the start of a text (its leading space is stripped); this many before settle it."""


@dataclass(frozen=True, slots=True)
class Pieces:
    """What the token ids of one vocabulary stand for.

    raw:     [id] the token's bytes; None when only the library's decoder knows its text (SentencePiece word pieces)
    special: ids that never appear in an answer's text
    """

    raw: tuple[bytes | None, ...]
    special: frozenset[int]

    @property
    def largest_id(self) -> int:
        return len(self.raw) - 1

    @staticmethod
    def of(backend: tokenizers.Tokenizer) -> Pieces:
        """Read the pieces of a tokenizer. Raises ModelFolderError for a decoder that cannot be streamed."""
        kinds = _decoder_kinds(backend)
        byte_level = "ByteLevel" in kinds
        if byte_level and kinds - {"ByteLevel", "Fuse"}:
            raise ModelFolderError(
                f"tokenizer.json: a ByteLevel decoder combined with {sorted(kinds - {'ByteLevel'})} is not supported."
            )
        vocabulary = backend.get_vocab(with_added_tokens=True)
        raw: list[bytes | None] = [b""] * (max(vocabulary.values(), default=-1) + 1)
        byte_of = _byte_alphabet() if byte_level else {}
        for token, token_id in vocabulary.items():
            if byte_level:
                raw[token_id] = _byte_level_bytes(token, byte_of)
            else:
                named = _BYTE_TOKEN.fullmatch(token) if "ByteFallback" in kinds else None
                raw[token_id] = bytes([int(named.group(1), 16)]) if named else None
        added = backend.get_added_tokens_decoder()
        return Pieces(tuple(raw), frozenset(i for i, token in added.items() if token.special))


def _decoder_kinds(backend: tokenizers.Tokenizer) -> set[str]:
    if backend.decoder is None:
        return set()
    state = json.loads(backend.decoder.__getstate__())
    return {d["type"] for d in state.get("decoders", [state])}


def _byte_alphabet() -> dict[str, int]:
    """The printable character that stands for each byte in byte-level vocabularies (GPT-2's table)."""
    alphabet = sorted(ByteLevel.alphabet())
    plain = [b for b in range(256) if chr(b) in alphabet]
    rest = [b for b in range(256) if chr(b) not in alphabet]
    return {chr(b): b for b in plain} | {chr(256 + i): b for i, b in enumerate(rest)}


def _byte_level_bytes(token: str, byte_of: dict[str, int]) -> bytes:
    # An added token is literal text, and may hold characters (a space) that the byte alphabet does not.
    return bytes(byte_of[c] for c in token) if all(c in byte_of for c in token) else token.encode()


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
