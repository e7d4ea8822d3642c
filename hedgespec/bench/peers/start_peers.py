"""Start the peers that can be had on this machine, and say in one line why each of the others cannot."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hedgespec.bench.peers.catalogue import Package, Peer
from hedgespec.bench.peers.environment import environment, environment_folder
from hedgespec.bench.peers.gguf_weights import gguf_weights
from hedgespec.bench.peers.worker_process import WorkerProcess
from hedgespec.errors import PeerUnavailable

WORKERS = Path(__file__).with_name("workers")


@dataclass(frozen=True, slots=True)
class Setting:
    """What all peers get.

    model, folder: the target as the configuration names it, and its safetensors folder
    max_context:   tokens of the longest prompt with its answer
    install_s, start_s, answer_s: seconds that an installation, the start of a worker and one batch may take
    """

    model: str
    folder: Path
    state_dir: Path
    threads: int
    at_once: int
    max_context: int
    end_ids: tuple[int, ...]
    install_s: float
    start_s: float
    answer_s: float


async def start_peers(
    peers: Sequence[Peer], setting: Setting, say: Callable[[str], None]
) -> tuple[list[WorkerProcess], dict[str, str]]:
    """Return the workers that are ready, all of them stopped, and the reasons of the peers that are not: one line each.

    Whoever calls it closes the workers; when it is cancelled it closes them itself.
    """
    workers: list[WorkerProcess] = []
    skipped: dict[str, str] = {}
    missing: dict[Package, str] = {}
    try:
        for peer in peers:
            try:
                if peer.package in missing:
                    raise PeerUnavailable(missing[peer.package])
                python = await _python(peer.package, setting, say, missing)
                workers.append(await _started(peer, python, setting, say))
            except PeerUnavailable as error:
                skipped[peer.name] = " ".join(str(error).split())
                say(f"Skipped {peer.name}: {skipped[peer.name]}")
    except BaseException:
        for worker in workers:
            await worker.close()
        raise
    return workers, skipped


async def _python(package: Package, setting: Setting, say: Callable[[str], None], missing: dict[Package, str]) -> Path:
    """Return the package's Python; a package that cannot be had is tried once for all of its peers."""
    try:
        return await environment(package, setting.state_dir, setting.install_s, say)
    except PeerUnavailable as error:
        missing[package] = str(error)
        raise


async def _started(peer: Peer, python: Path, setting: Setting, say: Callable[[str], None]) -> WorkerProcess:
    free_gb = free_memory_gb()
    if free_gb < peer.memory_gb:
        raise PeerUnavailable(f"it needs about {peer.memory_gb:g} GB of free memory, and {free_gb:.1f} GB are free")
    model = setting.folder
    if peer.weights != "folder":
        model = await asyncio.to_thread(gguf_weights, setting.model, peer.weights, setting.state_dir, say)
    job = {
        "model": str(model),
        "threads": setting.threads,
        "at_once": min(setting.at_once, peer.max_at_once),
        "prompt_lookup": peer.prompt_lookup,
        "max_context": setting.max_context,
        "end_ids": list(setting.end_ids),
    }
    say(f"Starting {peer.name}")
    log = environment_folder(peer.package, setting.state_dir) / f"{peer.name.replace(' ', '-')}.log"
    command = (str(python), str(WORKERS / peer.package.script))
    return await WorkerProcess.start(
        peer.name, peer.bits, peer.max_at_once, command, job, log, setting.start_s, setting.answer_s
    )


def free_memory_gb() -> float:
    """Return how much memory can be had without swapping; infinite where the system does not say."""
    try:
        found = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text(encoding="ascii"))
    except OSError:
        found = None
    return int(found[1]) / 1e6 if found else float("inf")
