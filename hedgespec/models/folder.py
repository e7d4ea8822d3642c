"""Model folders: what may be loaded, and a digest that names the weights. Torch is not imported here."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from hedgespec.errors import ModelFolderError

PICKLE_SUFFIXES = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".npy"})
SAMPLE_BYTES = 1 << 20
NUM_SAMPLES = 64


def check_model_folder(folder: Path, role: str) -> dict[str, Any]:
    """Refuse folders that miss a file, hold only pickled weights or bring code; return the parsed config.json.

    role: whose folder it is, for the message (`target`, `drafter python`). Raises ModelFolderError.
    """
    if not folder.is_dir():
        raise ModelFolderError(f"{role}: missing folder {folder}")
    _refuse_foreign_files(folder, role)
    config = _read_json(folder / "config.json", role)
    if "auto_map" in config or config.get("trust_remote_code"):
        raise ModelFolderError(f"{role}: refusing model code: config.json of {folder} names remote code (auto_map)")
    weights = weight_files(folder)
    if not weights:
        if any(path.suffix in PICKLE_SUFFIXES for path in folder.iterdir()):
            raise ModelFolderError(f"{role}: refusing pickle-based weights, safetensors required in {folder}")
        raise ModelFolderError(f"{role}: missing *.safetensors in {folder}")
    _check_shards(folder, role)
    return config


def weight_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))


def weights_digest(folder: Path) -> str:
    """12 hex digits over config.json and the weights.

    Small files count whole; of large ones the size and evenly spaced samples do (hashing 100 GB would take minutes).
    """
    digest = hashlib.sha256((folder / "config.json").read_bytes())
    for path in weight_files(folder):
        size = path.stat().st_size
        digest.update(f"{path.name}:{size}".encode())
        step = max(SAMPLE_BYTES, size // NUM_SAMPLES)
        with path.open("rb") as file:
            for offset in range(0, size, step):
                file.seek(offset)
                digest.update(file.read(SAMPLE_BYTES))
    return digest.hexdigest()[:12]


def _refuse_foreign_files(folder: Path, role: str) -> None:
    root = folder.resolve()
    for path in sorted(folder.iterdir()):
        if path.suffix == ".py":
            raise ModelFolderError(f"{role}: refusing model code: remove {path.name} from {folder} to load it")
        if path.is_symlink() and not path.resolve().is_relative_to(root):
            raise ModelFolderError(
                f"{role}: {path.name} in {folder} is a link out of the folder. Copy the model with its links followed."
            )


def _check_shards(folder: Path, role: str) -> None:
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return
    weight_map = _read_json(index, role).get("weight_map", {})
    missing = sorted({str(shard) for shard in weight_map.values() if not (folder / str(shard)).is_file()})
    if missing:
        raise ModelFolderError(f"{role}: missing {missing[:5]} in {folder}, named by {index.name}")


def _read_json(path: Path, role: str) -> dict[str, Any]:
    if not path.is_file():
        raise ModelFolderError(f"{role}: missing {path.name} in {path.parent}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelFolderError(f"{role}: cannot read {path}: {error}") from error
    if not isinstance(content, dict):
        raise ModelFolderError(f"{role}: {path} must hold a JSON object")
    return content
