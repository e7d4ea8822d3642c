"""The tokenizer of a GGUF file, rebuilt from its tokens, merges or scores, and the name of its pre-tokenizer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors

from hedgespec.errors import ModelFolderError
from hedgespec.models.gguf.header import GgufHeader

_CONTROL, _USER_DEFINED = 3, 4

_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN2 = _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
_TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_SPLITS: Mapping[str, pre_tokenizers.PreTokenizer | None] = {
    "gpt-2": None,
    "smollm": pre_tokenizers.Digits(individual_digits=True),
    "qwen2": pre_tokenizers.Split(Regex(_QWEN2), "isolated"),
    "llama-bpe": pre_tokenizers.Split(Regex(_LLAMA3), "isolated"),
    "tekken": pre_tokenizers.Split(Regex(_TEKKEN), "isolated"),
}
"""How text is cut before merging, by the file's `tokenizer.ggml.pre`. The first two are followed by GPT-2's own cuts."""

_WHOLE_WORDS = ("llama-bpe", "tekken")
"""A piece that is a token as it stands is not merged from its bytes."""


def build_tokenizer(header: GgufHeader) -> tokenizers.Tokenizer:
    """Return the file's tokenizer. Raises ModelFolderError by name for kinds that cannot be rebuilt."""
    tokens = header.strings("tokenizer.ggml.tokens")
    vocab = {token: index for index, token in enumerate(tokens)}
    if len(vocab) < len(tokens):
        raise header.refusal("tokenizer.ggml.tokens has the same token twice")
    kind = header.get("tokenizer.ggml.model", str)
    if kind not in ("gpt2", "llama"):
        raise header.refusal(f"tokenizer.ggml.model = {kind!r} is not supported, only gpt2 and llama")
    try:
        tokenizer = _byte_level(header, vocab) if kind == "gpt2" else _sentence_pieces(header, vocab)
        _add_special_tokens(header, tokenizer, tokens)
        _add_ends(header, tokenizer, tokens, adds_bos=kind == "llama")
    except ModelFolderError:
        raise
    except Exception as error:  # the library raises plain Exception for what does not fit together
        raise header.refusal(f"its tokenizer cannot be rebuilt: {error}") from error
    return tokenizer


def tokenizer_settings(header: GgufHeader) -> dict[str, Any]:
    """Return tokenizer_config.json: special tokens by name, and the chat template."""
    tokens = header.strings("tokenizer.ggml.tokens")
    names = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
    ids = {name: header.metadata.get(f"tokenizer.ggml.{key}_token_id") for name, key in names.items()}
    settings: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    settings |= {f"{name}_token": tokens[i] for name, i in ids.items() if type(i) is int and 0 <= i < len(tokens)}
    if "tokenizer.chat_template" in header.metadata:
        settings["chat_template"] = header.get("tokenizer.chat_template", str)
    return settings


def end_token_ids(header: GgufHeader) -> list[int]:
    """Return the ids that the file states to end an answer, a message or a turn."""
    stated = [header.metadata.get(f"tokenizer.ggml.{name}_token_id") for name in ("eos", "eot", "eom")]
    return list(dict.fromkeys(i for i in stated if type(i) is int))


def _byte_level(header: GgufHeader, vocab: dict[str, int]) -> tokenizers.Tokenizer:
    pre = header.get("tokenizer.ggml.pre", str)
    if pre not in _SPLITS:
        raise header.refusal(f"tokenizer.ggml.pre = {pre!r} is not supported, only {', '.join(_SPLITS)}")
    merges = [_pair(line) for line in header.strings("tokenizer.ggml.merges")]
    tokenizer = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=merges, ignore_merges=pre in _WHOLE_WORDS))
    split = _SPLITS[pre]
    own_cuts = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=pre in ("gpt-2", "smollm"))
    tokenizer.pre_tokenizer = own_cuts if split is None else pre_tokenizers.Sequence([split, own_cuts])
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _sentence_pieces(header: GgufHeader, vocab: dict[str, int]) -> tokenizers.Tokenizer:
    """SentencePiece's BPE with bytes for unknown characters, as Llama 2, Mistral and Gemma have it."""
    scores = header.get("tokenizer.ggml.scores", list)
    unknown = header.strings("tokenizer.ggml.tokens")[header.get("tokenizer.ggml.unknown_token_id", int, 0)]
    merges = _merges_by_score(vocab, scores)
    tokenizer = tokenizers.Tokenizer(
        models.BPE(vocab=vocab, merges=merges, unk_token=unknown, fuse_unk=True, byte_fallback=True)
    )
    spaces: list[normalizers.Normalizer] = [normalizers.Replace(" ", "▁")]
    pieces: list[decoders.Decoder] = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    if header.get("tokenizer.ggml.add_space_prefix", bool, True):
        spaces.insert(0, normalizers.Prepend("▁"))
        pieces.append(decoders.Strip(" ", 1, 0))
    tokenizer.normalizer = normalizers.Sequence(spaces)
    tokenizer.decoder = decoders.Sequence(pieces)
    return tokenizer


def _merges_by_score(vocab: Mapping[str, int], scores: Sequence[float]) -> list[tuple[str, str]]:
    """Return every pair of tokens that makes a token, the best token first."""
    made: list[tuple[float, int, int, tuple[str, str]]] = []
    for token, index in vocab.items():
        for cut in range(1, len(token)):
            left, right = token[:cut], token[cut:]
            if left in vocab and right in vocab:
                made.append((-scores[index], vocab[left], vocab[right], (left, right)))
    return [pair for *_, pair in sorted(made)]


def _add_special_tokens(header: GgufHeader, tokenizer: tokenizers.Tokenizer, tokens: Sequence[str]) -> None:
    """Control tokens are special; tokens of a user are always found whole but shown."""
    types = header.get("tokenizer.ggml.token_type", list, [])
    kinds = dict(zip(tokens, types, strict=False))
    special = [AddedToken(t, special=True, normalized=False) for t, kind in kinds.items() if kind == _CONTROL]
    whole = [AddedToken(t, normalized=False) for t, kind in kinds.items() if kind == _USER_DEFINED]
    tokenizer.add_special_tokens(special)
    tokenizer.add_tokens(whole)


def _add_ends(header: GgufHeader, tokenizer: tokenizers.Tokenizer, tokens: Sequence[str], adds_bos: bool) -> None:
    """Let encoding add the tokens around a text that the file asks for."""
    if header.metadata.get("tokenizer.ggml.pre") == "llama-bpe":
        adds_bos = True
    wanted = {"bos": adds_bos, "eos": False}
    ids = {
        name: header.get(f"tokenizer.ggml.{name}_token_id", int)
        for name, default in wanted.items()
        if header.get(f"tokenizer.ggml.add_{name}_token", bool, default)
    }
    if not ids:
        return
    around = [*(["bos"] if "bos" in ids else []), "$A", *(["eos"] if "eos" in ids else [])]
    named = {name: tokens[i] for name, i in ids.items()}
    tokenizer.post_processor = processors.TemplateProcessing(
        single=[named.get(part, part) for part in around],
        special_tokens=[(named[name], i) for name, i in ids.items()],
    )


def _pair(line: str) -> tuple[str, str]:
    left, _, right = line.partition(" ")
    return left, right
