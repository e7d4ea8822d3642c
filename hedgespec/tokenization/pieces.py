"""Pieces are what token ids stand for: raw bytes where the vocabulary says so, else text that depends on its neighbours."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

import tokenizers
from tokenizers.pre_tokenizers import ByteLevel

from hedgespec.errors import ModelFolderError

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


@dataclass(frozen=True, slots=True)
class Pieces:
    """The pieces of one vocabulary.

    raw[id]: the token's bytes; None when only the library's decoder knows its text (SentencePiece word pieces).

    special: ids that never appear in an answer's text.
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
