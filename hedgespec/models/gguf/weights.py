"""The tensors of a GGUF file are dequantized one by one and written as float32 safetensors."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from hedgespec.models.gguf.header import GgufHeader

MAX_SHARD_BYTES = 1 << 30
"""A shard is held in memory while it is written."""

Array = NDArray[np.float32]


def read_tensor(header: GgufHeader, name: str) -> Array:
    """Return one tensor in float32."""
    tensor = header.tensors[name]
    blocks = np.fromfile(header.path, np.uint8, tensor.num_bytes, offset=tensor.start)
    rows = blocks.reshape(*tensor.shape[:-1], -1)
    return np.asarray(gguf.dequantize(rows, tensor.kind), np.float32)


def restored_rows(weight: Array, num_heads: int) -> Array:
    """Undo the order of rotary rows in Llama's files: pairs (0, 1), (2, 3) become halves (0, n/2), (1, n/2 + 1) again.

    weight: [num_heads * head_dim, ...] of queries or keys
    """
    pairs = weight.reshape(num_heads, -1, 2, *weight.shape[1:])
    return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(weight.shape)


def write_shards(tensors: Iterator[tuple[str, Array]], folder: Path) -> None:
    """Write named tensors to model.safetensors, or to several files and an index where they are large."""
    places: dict[str, Path] = {}
    shard: dict[str, Array] = {}
    for name, tensor in tensors:
        if shard and sum(t.nbytes for t in shard.values()) + tensor.nbytes > MAX_SHARD_BYTES:
            _write(shard, folder, places)
        shard[name] = tensor
    _write(shard, folder, places)
    if len(files := sorted(set(places.values()))) == 1:
        files[0].rename(folder / "model.safetensors")
        return
    index: Mapping[str, Any] = {"metadata": {}, "weight_map": {name: path.name for name, path in places.items()}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1), encoding="utf-8")


def _write(shard: dict[str, Array], folder: Path, places: dict[str, Path]) -> None:
    """Write and empty a shard, and note its file for each of its tensors."""
    path = folder / f"model-{len(set(places.values())) + 1:05}.safetensors"
    save_file(shard, path, metadata={"format": "pt"})
    places.update(dict.fromkeys(shard, path))
    shard.clear()
