"""Every peer's package gets a Python environment of its own under the state folder, made once."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import signal
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

from hedgespec.assembly.model_cache import made_once
from hedgespec.bench.peers.catalogue import Package
from hedgespec.errors import ModelFolderError, PeerUnavailable

COMPILERS = ("c++", "g++", "clang++")


def environment_folder(package: Package, state_dir: Path) -> Path:
    """Return where the environment is, or will be: another version of anything is another environment."""
    key = repr((package.requirements, package.shares_ours, package.without, sys.version_info[:2], sys.prefix))
    return state_dir.expanduser() / "peers" / f"{package.name}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"


async def environment(package: Package, state_dir: Path, timeout_s: float, say: Callable[[str], None]) -> Path:
    """Return the peer's Python, after making its environment where there is none yet.

    Raises PeerUnavailable, in one line, where the machine or the package index does not have what the peer needs.
    """
    check_machine(package)
    folder = environment_folder(package, state_dir)
    try:
        with made_once(folder) as unfinished:
            if unfinished is not None:
                compiling = "; compiling it may take many minutes" if package.compiles else ""
                say(f"Installing {package.name} in an environment of its own{compiling}")
                async with asyncio.timeout(timeout_s):
                    await _make(package, unfinished)
    except TimeoutError:
        raise PeerUnavailable(f"its installation took longer than {timeout_s:g} s") from None
    except (ModelFolderError, OSError) as error:
        raise PeerUnavailable(f"its environment cannot be made: {error}") from error
    return python_of(folder)


def python_of(folder: Path) -> Path:
    return folder / "bin" / "python"


def check_machine(package: Package) -> None:
    """Raise PeerUnavailable where the processor or the compiler that the package needs is missing."""
    if package.cpu_flag is not None and package.cpu_flag not in _cpu_flags():
        raise PeerUnavailable(f"this processor has no {package.cpu_flag}")
    if package.compiles and not any(map(shutil.which, COMPILERS)):
        raise PeerUnavailable("it needs a C++ compiler, and there is none")


async def _make(package: Package, folder: Path) -> None:
    await _run(sys.executable, "-m", "venv", "--without-pip", str(folder))
    pip = (sys.executable, "-m", "pip", "--python", str(python_of(folder)), "--disable-pip-version-check", "--no-input")
    if package.shares_ours:
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        ours = sysconfig.get_path("purelib")
        (folder / "lib" / version / "site-packages" / "ours.pth").write_text(f"{ours}\n", encoding="utf-8")
    if package.requirements:
        await _run(*pip, "install", "--quiet", *package.requirements)
    if package.without:
        await _run(*pip, "uninstall", "--quiet", "--yes", *package.without)


async def _run(*command: str) -> None:
    """Run a command to its end, or kill it and its children. Raises PeerUnavailable with pip's reason."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        _, said = await process.communicate()
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        raise
    if process.returncode:
        raise PeerUnavailable(f"it cannot be installed: {reason(said.decode(errors='replace'))}")


def reason(said: str) -> str:
    """Return the line of a program's error output that says most: its last error, else its last line."""
    lines = [line.strip() for line in said.splitlines() if line.strip()] or ["it gave no reason"]
    return next((line for line in reversed(lines) if "error" in line.lower()), lines[-1])[:300]


def _cpu_flags() -> set[str]:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    return set(next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), []))
