"""A Ray that does not start is tried once more, and leaves nothing behind."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import ray

from deployments.local_ray import START_ATTEMPTS, end_processes_of, local_ray
from hedgespec.errors import HedgeSpecError


def test_a_start_that_fails_is_tried_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    folders: list[Path] = []

    def init(**options: Any) -> None:
        folders.append(Path(options["_temp_dir"]))
        assert folders[-1].is_dir()
        if len(folders) == 1:
            raise Exception("The current node timed out during startup.")

    monkeypatch.setattr(ray, "init", init)
    with local_ray(1):
        assert [folder.is_dir() for folder in folders] == [False, True]
    assert not any(folder.exists() for folder in folders)


def test_a_ray_that_never_starts_says_why_and_leaves_no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    folders: list[Path] = []

    def init(**options: Any) -> None:
        folders.append(Path(options["_temp_dir"]))
        raise RuntimeError("no room")

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(HedgeSpecError, match="no room"), local_ray(1):
        pass
    assert len(folders) == START_ATTEMPTS
    assert not any(folder.exists() for folder in folders)


def test_only_processes_of_the_folder_are_ended(tmp_path: Path) -> None:
    sleep = "import time; time.sleep(60)"
    mine = subprocess.Popen([sys.executable, "-c", sleep, f"--dir={tmp_path / 'mine'}"])
    other = subprocess.Popen([sys.executable, "-c", sleep, f"--dir={tmp_path / 'other'}"])
    try:
        time.sleep(0.2)  # until they are what they were started as
        end_processes_of(tmp_path / "mine")
        assert mine.wait(10) != 0
        assert other.poll() is None
    finally:
        for process in (mine, other):
            process.kill()
            process.wait(10)
