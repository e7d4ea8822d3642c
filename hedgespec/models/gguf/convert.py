"""A GGUF file becomes a model folder, after which every path serves it like any other. torch is not needed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

from hedgespec.errors import ModelFolderError
from hedgespec.models.gguf.architecture import Architecture, architecture_of, model_config, tensor_names
from hedgespec.models.gguf.header import GgufHeader, read_header
from hedgespec.models.gguf.vocabulary import build_tokenizer, end_token_ids, tokenizer_settings
from hedgespec.models.gguf.weights import Array, read_tensor, restored_rows, write_shards
from hedgespec.tokenization import Tokenizer

BYTES_PER_WEIGHT = 4


def check_gguf(path: Path) -> None:
    """Raise ModelFolderError when the file's header says that it cannot be served. Reads no weights."""
    header = read_header(path)
    architecture = architecture_of(header)
    tensor_names(header, architecture, model_config(header, architecture))


def convert(path: Path, folder: Path) -> None:
    """Write the file's model to an empty folder, its weights in float32 with the values that the file stands for.

    Raises ModelFolderError, before anything large is read or written where the header tells.
    """
    header = read_header(path)
    architecture = architecture_of(header)
    config = model_config(header, architecture)
    names = tensor_names(header, architecture, config)
    try:
        build_tokenizer(header).save(str(folder / "tokenizer.json"))
        _write_json(folder / "config.json", config)
        _write_json(folder / "tokenizer_config.json", tokenizer_settings(header))
        _write_json(folder / "generation_config.json", {"eos_token_id": end_token_ids(header) or None})
        Tokenizer.from_folder(folder)
        _check_space(header, folder)
        write_shards(_tensors(header, architecture, config, names), folder)
    except OSError as error:
        raise ModelFolderError(f"{path} cannot be converted in {folder.parent}: {error}.") from error


def _tensors(
    header: GgufHeader, architecture: Architecture, config: dict[str, Any], names: dict[str, str]
) -> Iterator[tuple[str, Array]]:
    """Yield the tensors as the model has them, one at a time."""
    num_heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    for source, name in names.items():
        tensor = read_tensor(header, source)
        part = source.split(".")[-2]
        if architecture.swaps_rotary_rows and part in num_heads:
            tensor = restored_rows(tensor, num_heads[part])
        if part.endswith("norm"):
            tensor = tensor - architecture.norm_offset
        yield name, tensor


def _check_space(header: GgufHeader, folder: Path) -> None:
    needed = BYTES_PER_WEIGHT * sum(prod(tensor.shape) for tensor in header.tensors.values())
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise header.refusal(f"its weights take {needed >> 20} MiB in {folder.parent}, where {free >> 20} MiB are free")


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
