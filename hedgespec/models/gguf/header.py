"""The header of a GGUF file holds its metadata and says where its tensors lie; every length is checked before use."""

from __future__ import annotations

import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from math import prod
from pathlib import Path
from typing import Any, TypeVar

import gguf
import numpy as np

from hedgespec.errors import ModelFolderError

VERSIONS = (2, 3)
MAX_HEADER_BYTES = 256 << 20
MAX_DIMENSIONS = 4

_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """shape: outermost dimension first. start, num_bytes: where its blocks lie in the file."""

    name: str
    shape: tuple[int, ...]
    kind: gguf.GGMLQuantizationType
    start: int
    num_bytes: int


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """What a GGUF file says about itself; arrays of the metadata are lists."""

    path: Path
    metadata: Mapping[str, Any]
    tensors: Mapping[str, GgufTensor]

    def get(self, key: str, kind: type[T], default: T | None = None) -> T:
        """Return a value of the metadata. Raises ModelFolderError where it is missing or of another kind."""
        value = self.metadata.get(key, default)
        if type(value) is not kind:
            raise self.refusal(f"{key} is missing" if value is None else f"{key} must be of kind {kind.__name__}")
        return value

    def strings(self, key: str) -> list[str]:
        """Return a list of strings from the metadata. Raises ModelFolderError."""
        values = self.get(key, list)
        if not values or not isinstance(values[0], str):
            raise self.refusal(f"{key} must be a list of strings")
        return values

    def refusal(self, problem: str) -> ModelFolderError:
        return ModelFolderError(f"{self.path}: {problem}.")


def read_header(path: Path) -> GgufHeader:
    """Read and check the header. Raises ModelFolderError for files that are no GGUF, malformed, truncated or of a tensor
    type that cannot be dequantized; no tensor is read."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return _parse(path, _Cursor(content))
    except (OSError, ValueError, UnicodeDecodeError) as error:
        raise ModelFolderError(f"{path} cannot be read as a GGUF file: {error}.") from error


def _parse(path: Path, cursor: _Cursor) -> GgufHeader:
    if cursor.take(4) != b"GGUF":
        raise ValueError("it does not begin with GGUF")
    if (version := cursor.number("<I")) not in VERSIONS:
        raise ValueError(f"version {version} is unknown (known: {VERSIONS}, little-endian)")
    num_tensors, num_keys = cursor.number("<Q"), cursor.number("<Q")
    metadata: dict[str, Any] = {}
    for _ in range(num_keys):
        key = cursor.text()
        if key in metadata:
            raise ValueError(f"{key!r} stands in it twice")
        metadata[key] = cursor.value(cursor.number("<I"))
    entries = [_tensor_entry(cursor) for _ in range(num_tensors)]
    alignment = metadata.get("general.alignment", gguf.GGUF_DEFAULT_ALIGNMENT)
    if type(alignment) is not int or alignment < 1:
        raise ValueError("general.alignment must be a positive number")
    data_start = -(-cursor.position // alignment) * alignment
    tensors: dict[str, GgufTensor] = {}
    for name, shape, type_number, offset in entries:
        if name in tensors:
            raise ValueError(f"tensor {name!r} stands in it twice")
        tensors[name] = _located(name, shape, type_number, data_start + offset, cursor.size)
    return GgufHeader(path, metadata, tensors)


def _tensor_entry(cursor: _Cursor) -> tuple[str, tuple[int, ...], int, int]:
    name = cursor.text()
    num_dimensions = cursor.number("<I")
    if num_dimensions > MAX_DIMENSIONS:
        raise ValueError(f"tensor {name!r} has {num_dimensions} dimensions")
    innermost_first = [cursor.number("<Q") for _ in range(num_dimensions)]
    return name, tuple(reversed(innermost_first)), cursor.number("<I"), cursor.number("<Q")


def _located(name: str, shape: tuple[int, ...], type_number: int, start: int, file_size: int) -> GgufTensor:
    try:
        kind = gguf.GGMLQuantizationType(type_number)
    except ValueError:
        raise ValueError(f"tensor {name!r} has the unknown type {type_number}") from None
    if not _can_dequantize(kind):
        raise ValueError(f"tensor {name!r} has type {kind.name}, which cannot be dequantized here")
    block_size, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    if not shape or 0 in shape or shape[-1] % block_size:
        raise ValueError(f"tensor {name!r} of type {kind.name} cannot have shape {list(shape)}")
    num_bytes = prod(shape) // block_size * block_bytes
    if start + num_bytes > file_size:
        raise ValueError(f"it is truncated: tensor {name!r} ends at byte {start + num_bytes} of {file_size}")
    return GgufTensor(name, shape, kind, start, num_bytes)


@cache
def _can_dequantize(kind: gguf.GGMLQuantizationType) -> bool:
    try:
        gguf.dequantize(np.zeros((1, gguf.GGML_QUANT_SIZES[kind][1]), np.uint8), kind)
    except (NotImplementedError, KeyError):
        return False
    return True


class _Cursor:
    """Reads a header from front to back. Raises ValueError at its end."""

    def __init__(self, content: mmap.mmap) -> None:
        self._content = content
        self.size = len(content)
        self.position = 0

    def take(self, num_bytes: int) -> bytes:
        end = self.position + num_bytes
        if end > min(self.size, MAX_HEADER_BYTES):
            raise ValueError(f"its header is truncated or has wrong lengths (byte {self.position} of {self.size})")
        taken = self._content[self.position : end]
        self.position = end
        return taken

    def number(self, form: str) -> Any:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def text(self) -> str:
        return self.take(self.number("<Q")).decode("utf-8")

    def value(self, type_number: int) -> Any:
        if type_number == _STRING:
            return self.text()
        if type_number in _SCALARS:
            return self.number(_SCALARS[type_number])
        if type_number != _ARRAY:
            raise ValueError(f"its metadata has a value of the unknown type {type_number}")
        item_type, num_items = self.number("<I"), self.number("<Q")
        if item_type == _STRING:
            return [self.text() for _ in range(num_items)]
        if item_type not in _SCALARS:
            raise ValueError(f"its metadata has an array of type {item_type}")
        item = np.dtype(_SCALARS[item_type])
        return np.frombuffer(self.take(num_items * item.itemsize), item).tolist()
