"""Models that were converted or fetched are kept as folders under the state folder, each made once and never half."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hedgespec.errors import ModelFolderError

CONVERSION = 1
"""Raise it when conversion writes something else: folders of an earlier one are then left alone."""


def models_folder(state_dir: Path) -> Path:
    return state_dir.expanduser() / "models"


def converted_folder(gguf_file: Path, state_dir: Path) -> Path:
    """Return the model folder of a GGUF file, converted now unless that was done. Raises ModelFolderError."""
    from hedgespec.models.folder import sample_file
    from hedgespec.models.gguf.convert import check_gguf, convert

    check_gguf(gguf_file)
    digest = hashlib.sha256(str(CONVERSION).encode())
    sample_file(digest, gguf_file)
    folder = models_folder(state_dir) / f"{gguf_file.stem}-{digest.hexdigest()[:12]}"
    with made_once(folder) as unfinished:
        if unfinished is not None:
            convert(gguf_file, unfinished)
    return folder


@contextmanager
def made_once(folder: Path, on_wait: Callable[[], None] = lambda: None) -> Iterator[Path | None]:
    """Yield an empty folder that becomes `folder` at the end of the block, or None where `folder` exists.

    A second process calls on_wait and waits here for the first one. After an error, or a process that was killed, nothing
    is left that could be taken for the folder. Raises ModelFolderError where the state folder cannot be written.
    """
    if folder.is_dir():
        yield None
        return
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = folder.with_name(f".{folder.name}.lock").open("w")
    except OSError as error:
        raise ModelFolderError(f"{folder.parent} cannot be written: {error}.") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            on_wait()
            fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.is_dir():
            yield None
            return
        unfinished = folder.with_name(f".{folder.name}.part")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        try:
            yield unfinished
            unfinished.rename(folder)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
