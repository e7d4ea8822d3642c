"""Read model folders: config.json and safetensors files, sharded or not. Nothing in them is ever executed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from hedgespec.errors import ModelFolderError

_EMBEDDING_NAMES = ("model.embed_tokens.weight", "embed_tokens.weight", "model.language_model.embed_tokens.weight")
_UNSAFE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


def read_config(folder: Path) -> dict[str, Any]:
    """Return config.json. Raises ModelFolderError where there is none or it is no JSON object."""
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelFolderError(f"No readable config.json in {folder}: {error.strerror}.") from error
    except ValueError as error:
        raise ModelFolderError(f"{path} is not valid JSON: {error}.") from error
    if not isinstance(config, dict):
        raise ModelFolderError(f"{path} must hold a JSON object, not {type(config).__name__}.")
    return config


def read_tensors(folder: Path, wanted: Callable[[str], bool] = lambda name: True) -> Iterator[tuple[str, Tensor]]:
    """Yield (name, tensor) for the wanted names. Floating-point values that are not finite raise, by name."""
    by_file: dict[Path, list[str]] = {}
    for name, path in tensor_files(folder).items():
        if wanted(name):
            by_file.setdefault(path, []).append(name)
    for path, names in by_file.items():
        try:
            with safe_open(path, framework="pt") as file:
                loaded = [(name, file.get_tensor(name)) for name in names]
        except (OSError, SafetensorError) as error:
            raise ModelFolderError(f"{path} cannot be read as safetensors: {error}.") from error
        for name, tensor in loaded:
            if tensor.is_floating_point() and not bool(torch.isfinite(tensor.float()).all()):
                raise ModelFolderError(f"Tensor {name!r} in {path} has values that are not finite.")
            yield name, tensor


def read_embedding(folder: Path) -> Tensor:
    """Return a model's input embedding, [vocab, hidden], without reading anything else of it."""
    names = tensor_files(folder)
    name = next((n for n in _EMBEDDING_NAMES if n in names), None)
    if name is None:
        raise ModelFolderError(f"No input embedding in {folder}: looked for {', '.join(_EMBEDDING_NAMES)}.")
    return next(tensor for _, tensor in read_tensors(folder, lambda n: n == name))


def tensor_files(folder: Path) -> dict[str, Path]:
    """Return the file that holds each tensor. Raises ModelFolderError for folders without safetensors."""
    index, single = folder / "model.safetensors.index.json", folder / "model.safetensors"
    if index.is_file():
        return _indexed(folder, index)
    if not single.is_file():
        unsafe = sorted(p.name for p in folder.glob("*") if p.suffix in _UNSAFE_SUFFIXES)
        hint = f" It has {', '.join(unsafe)}: convert to safetensors, pickled weights are not loaded." if unsafe else ""
        raise ModelFolderError(f"No model.safetensors in {folder}.{hint}")
    try:
        with safe_open(single, framework="pt") as file:
            return dict.fromkeys(file.keys(), single)
    except (OSError, SafetensorError) as error:
        raise ModelFolderError(f"{single} cannot be read as safetensors: {error}.") from error


def _indexed(folder: Path, index: Path) -> dict[str, Path]:
    try:
        weight_map = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        files = {str(name): str(file) for name, file in weight_map.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelFolderError(f"{index} is not a safetensors index: {error}.") from error
    for file in set(files.values()):
        if Path(file).name != file or not file.endswith(".safetensors"):
            raise ModelFolderError(f"{index} names {file!r}: only .safetensors files of the same folder are read.")
    return {name: folder / file for name, file in files.items()}
