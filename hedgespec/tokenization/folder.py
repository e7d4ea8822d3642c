"""The small JSON files of a model folder state its end tokens, context length, vocabulary size and chat template."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tokenizers

from hedgespec.errors import ModelFolderError
from hedgespec.tokenization.chat_template import MAX_TEMPLATE_CHARS, ChatTemplate

MAX_TOKENIZER_BYTES = 128 << 20
MAX_CONFIG_BYTES = 16 << 20
"""tokenizer_config.json of some models lists thousands of added tokens."""

MAX_CONTEXT = 1 << 24
"""Folders write 1e30 for "no limit"; anything above this is not a context length."""

_LENGTH_KEYS = ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length")
_SPECIAL_KEYS = ("bos_token", "eos_token", "pad_token", "unk_token")

JsonObject = dict[str, Any]


def read_model_config(path: Path) -> JsonObject:
    """Read config.json; the language part of a multimodal one is merged over it."""
    config = _read_object(path / "config.json", required=True)
    inner = config.get("text_config")
    return {**config, **inner} if isinstance(inner, dict) else config


def read_tokenizer_settings(path: Path) -> JsonObject:
    """Read tokenizer_config.json over special_tokens_map.json, special tokens reduced to their text."""
    settings = {**_read_object(path / "special_tokens_map.json"), **_read_object(path / "tokenizer_config.json")}
    for key in _SPECIAL_KEYS:
        if isinstance(settings.get(key), dict):
            settings[key] = settings[key].get("content")
    return settings


def eos_token_ids(
    path: Path, config: JsonObject, settings: JsonObject, backend: tokenizers.Tokenizer
) -> tuple[int, ...]:
    """Return ids from generation_config.json (else config.json) and the tokenizer's own eos_token, in that order."""
    stated = _read_object(path / "generation_config.json").get("eos_token_id")
    source = "generation_config.json"
    if stated is None:
        stated, source = config.get("eos_token_id"), "config.json"
    ids = [] if stated is None else stated if isinstance(stated, list) else [stated]
    if not all(isinstance(i, int) and not isinstance(i, bool) and i >= 0 for i in ids):
        raise ModelFolderError(f"{path / source}: eos_token_id must be a token id or a list of token ids.")
    named = settings.get("eos_token")
    own = backend.token_to_id(named) if isinstance(named, str) else None
    return tuple(dict.fromkeys([*ids, *([] if own is None else [own])]))


def max_model_len(path: Path, config: JsonObject, settings: JsonObject) -> int:
    """Return the model's position limit, or the tokenizer's where the model states none."""
    for key in _LENGTH_KEYS:
        if key in config:
            return _positive(path / "config.json", key, config[key], MAX_CONTEXT)
    stated = settings.get("model_max_length")
    if isinstance(stated, int) and 0 < stated <= MAX_CONTEXT:
        return stated
    raise ModelFolderError(f"{path / 'config.json'} has no context length; add max_position_embeddings.")


def vocab_size(path: Path, config: JsonObject, num_tokenizer_ids: int) -> int:
    if "vocab_size" not in config:
        return num_tokenizer_ids
    return _positive(path / "config.json", "vocab_size", config["vocab_size"], 1 << 24)


def chat_template(path: Path, settings: JsonObject) -> ChatTemplate | None:
    """Read chat_template.jinja, or else the one in tokenizer_config.json (the `default` of several)."""
    file = path / "chat_template.jinja"
    if file.is_file():
        source: Any = _read_text(file, 4 * MAX_TEMPLATE_CHARS)
    else:
        file, source = path / "tokenizer_config.json", settings.get("chat_template")
        if isinstance(source, list):
            named = {t.get("name"): t.get("template") for t in source if isinstance(t, dict)}
            source = named.get("default")
    if source is None:
        return None
    if not isinstance(source, str):
        raise ModelFolderError(f"{file}: chat_template must be a string or a list with one named 'default'.")
    special = {key: str(settings[key]) for key in _SPECIAL_KEYS if isinstance(settings.get(key), str)}
    try:
        return ChatTemplate(source, special)
    except ModelFolderError as error:
        raise ModelFolderError(f"{file}: {error}") from error


def _positive(file: Path, key: str, value: Any, limit: int) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= limit:
        return value
    raise ModelFolderError(f"{file}: {key} must be a whole number from 1 to {limit}.")


def _read_object(file: Path, required: bool = False) -> JsonObject:
    if not file.is_file():
        if required:
            raise ModelFolderError(f"{file} is missing; a model folder needs it.")
        return {}
    try:
        content = json.loads(_read_text(file, MAX_CONFIG_BYTES))
    except (ValueError, RecursionError) as error:
        raise ModelFolderError(f"{file} is not valid JSON: {error}") from error
    if not isinstance(content, Mapping):
        raise ModelFolderError(f"{file} must hold a JSON object.")
    return dict(content)


def _read_text(file: Path, max_bytes: int) -> str:
    try:
        if file.stat().st_size > max_bytes:
            raise ModelFolderError(f"{file} is larger than {max_bytes} bytes.")
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelFolderError(f"{file} cannot be read: {error}") from error
