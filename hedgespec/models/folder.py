"""Read model folders: config.json and safetensors files, sharded or not. Nothing in them is ever executed.

torch is imported only when tensors are read: the router names weights by their digest and has no torch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from hedgespec.errors import ModelFolderError

if TYPE_CHECKING:
    from torch import Tensor

PICKLE_SUFFIXES = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".npy"})
SAMPLE_BYTES = 1 << 20
NUM_SAMPLES = 64

_INDEX = "model.safetensors.index.json"
_EMBEDDING_NAMES = ("model.embed_tokens.weight", "embed_tokens.weight", "model.language_model.embed_tokens.weight")


def check_model_folder(folder: Path, role: str) -> None:
    """Refuse a folder that misses a file, holds only pickled weights, brings code, or links out of itself.

    role: whose folder it is, for the message (`target`, `drafter python`). Raises ModelFolderError.
    """
    if not folder.is_dir():
        raise ModelFolderError(f"{role}: missing folder {folder}")
    _refuse_foreign_files(folder, role)
    config = read_config(folder, role)
    if "auto_map" in config or config.get("trust_remote_code"):
        raise ModelFolderError(f"{role}: refusing model code: config.json of {folder} names remote code (auto_map)")
    if not weight_files(folder):
        raise ModelFolderError(f"{role}: {_no_weights(folder)}")
    if (folder / _INDEX).is_file():
        missing = sorted({path.name for path in _indexed(folder).values() if not path.is_file()})
        if missing:
            raise ModelFolderError(f"{role}: missing {missing[:5]} in {folder}, named by {_INDEX}")


def read_config(folder: Path, role: str = "model") -> dict[str, Any]:
    """Return config.json. Raises ModelFolderError where it is missing or no JSON object."""
    path = folder / "config.json"
    if not path.is_file():
        raise ModelFolderError(f"{role}: missing config.json in {folder}")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelFolderError(f"{role}: cannot read {path}: {error}") from error
    if not isinstance(config, dict):
        raise ModelFolderError(f"{role}: {path} must hold a JSON object")
    return config


def weight_files(folder: Path) -> list[Path]:
    """List the safetensors files, sorted by name."""
    return sorted(folder.glob("*.safetensors"))


def weights_digest(folder: Path) -> str:
    """Name the weights by 12 hex digits over config.json and the safetensors files; see `sample_file`."""
    digest = hashlib.sha256((folder / "config.json").read_bytes())
    for path in weight_files(folder):
        sample_file(digest, path)
    return digest.hexdigest()[:12]


def sample_file(digest: hashlib._Hash, path: Path) -> None:
    """Add a file's name and content to a digest.

    Small files count whole; of large ones the size and evenly spaced samples do (hashing 100 GB would take minutes).
    """
    size = path.stat().st_size
    digest.update(f"{path.name}:{size}".encode())
    step = max(SAMPLE_BYTES, size // NUM_SAMPLES)
    with path.open("rb") as file:
        for offset in range(0, size, step):
            file.seek(offset)
            digest.update(file.read(SAMPLE_BYTES))


def read_tensors(folder: Path, wanted: Callable[[str], bool] = lambda name: True) -> Iterator[tuple[str, Tensor]]:
    """Yield (name, tensor) for the wanted names. Raises ModelFolderError by name for values that are not finite."""
    import torch

    by_file: dict[Path, list[str]] = {}
    for name, path in _tensor_files(folder).items():
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
    """Return a model's input embedding, [vocab, hidden], without reading its other tensors."""
    names = _tensor_files(folder)
    name = next((n for n in _EMBEDDING_NAMES if n in names), None)
    if name is None:
        raise ModelFolderError(f"No input embedding in {folder}: looked for {', '.join(_EMBEDDING_NAMES)}.")
    return next(tensor for _, tensor in read_tensors(folder, lambda n: n == name))


def read_output_matrix(folder: Path) -> Tensor:
    """Return a model's output matrix, [vocab, hidden]: its own, or the embedding where they are one."""
    if "lm_head.weight" not in _tensor_files(folder):
        return read_embedding(folder)
    return next(tensor for _, tensor in read_tensors(folder, lambda n: n == "lm_head.weight"))


# ------------------------------------------------------------------------------------------------------------- helpers


def _tensor_files(folder: Path) -> dict[str, Path]:
    """Map each tensor's name to its file."""
    if (folder / _INDEX).is_file():
        return _indexed(folder)
    single = folder / "model.safetensors"
    if not single.is_file():
        raise ModelFolderError(_no_weights(folder))
    try:
        with safe_open(single, framework="pt") as file:
            return dict.fromkeys(file.keys(), single)
    except (OSError, SafetensorError) as error:
        raise ModelFolderError(f"{single} cannot be read as safetensors: {error}.") from error


def _indexed(folder: Path) -> dict[str, Path]:
    index = folder / _INDEX
    try:
        weight_map = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        files = {str(name): str(file) for name, file in weight_map.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelFolderError(f"{index} is not a safetensors index: {error}.") from error
    for file in set(files.values()):
        if Path(file).name != file or not file.endswith(".safetensors"):
            raise ModelFolderError(f"{index} names {file!r}: only .safetensors files of the same folder are read.")
    return {name: folder / file for name, file in files.items()}


def _no_weights(folder: Path) -> str:
    pickled = sorted(path.name for path in folder.glob("*") if path.suffix in PICKLE_SUFFIXES)
    if pickled:
        return f"refusing pickle-based weights, safetensors required in {folder}: convert {', '.join(pickled)}"
    return f"missing *.safetensors in {folder}"


def _refuse_foreign_files(folder: Path, role: str) -> None:
    root = folder.resolve()
    for path in sorted(folder.iterdir()):
        if path.suffix == ".py":
            raise ModelFolderError(f"{role}: refusing model code: remove {path.name} from {folder} to load it")
        if path.is_symlink() and not path.resolve().is_relative_to(root):
            raise ModelFolderError(
                f"{role}: {path.name} in {folder} is a link out of the folder. Copy the model with its links followed."
            )
