"""A peer's process: it runs a worker script, answers one line at a time, and is stopped while others are measured."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hedgespec.bench.peers.contract import Batch, parsed_batch
from hedgespec.bench.peers.environment import reason
from hedgespec.errors import PeerUnavailable

MAX_LINE_BYTES = 1 << 24
LAST_WORDS_BYTES = 20_000


class WorkerProcess:
    """Implements `contract.Arm` by a process of another Python. Made by `start`; must be closed.

    answer_s: seconds that one batch may take
    """

    def __init__(
        self,
        name: str,
        bits: str,
        max_at_once: int,
        process: asyncio.subprocess.Process,
        log: Path,
        end_ids: Sequence[int],
        answer_s: float,
    ) -> None:
        self.name, self.bits, self.max_at_once = name, bits, max_at_once
        self.version = ""
        self._process, self._log, self._end_ids, self._answer_s = process, log, tuple(end_ids), answer_s

    @staticmethod
    async def start(
        name: str,
        bits: str,
        max_at_once: int,
        command: Sequence[str],
        job: Mapping[str, Any],
        log: Path,
        start_s: float,
        answer_s: float,
    ) -> WorkerProcess:
        """Start the worker and wait, for at most start_s seconds, until its model is loaded; then stop it until it is asked.

        log: where its error output goes. Raises PeerUnavailable.
        """
        with log.open("wb") as errors:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                limit=MAX_LINE_BYTES,
                env=os.environ | worker_environment(job["threads"], log.parent),
                start_new_session=True,
            )
        worker = WorkerProcess(name, bits, max_at_once, process, log, job["end_ids"], answer_s)
        try:
            reply = await worker._ask(dict(job), start_s)
            if reply.get("ready") is not True:
                raise PeerUnavailable(f"its worker broke the contract: {reply!r:.200}")
        except BaseException:
            await worker.close()
            raise
        worker.version = str(reply.get("version", ""))
        worker._signal(signal.SIGSTOP)
        return worker

    async def decode(self, prompts: Sequence[NDArray[np.int32]], max_tokens: int) -> Batch:
        """Implements `contract.Arm.decode`; before and after it the process gets no processor time."""
        self._signal(signal.SIGCONT)
        request = {"prompts": [prompt.tolist() for prompt in prompts], "max_tokens": max_tokens}
        batch = parsed_batch(await self._ask(request, self._answer_s), len(prompts), self._end_ids)
        self._signal(signal.SIGSTOP)
        return batch

    async def close(self) -> None:
        """Kill the process and its children, also when it is stopped or hangs."""
        self._signal(signal.SIGKILL)
        await self._process.wait()

    async def _ask(self, request: Mapping[str, Any], timeout_s: float) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(timeout_s):
                self._process.stdin.write(json.dumps(request).encode() + b"\n")
                await self._process.stdin.drain()
                line = await self._process.stdout.readline()
                if not line:
                    await self._process.wait()
        except TimeoutError:
            raise PeerUnavailable(f"it did not answer within {timeout_s:g} s") from None
        except (ConnectionError, ValueError) as error:
            raise PeerUnavailable(f"its process cannot be talked to: {error}; {self._last_words()}") from error
        if not line:
            raise PeerUnavailable(f"its process ended with code {self._process.returncode}: {self._last_words()}")
        try:
            reply = json.loads(line)
        except ValueError:
            raise PeerUnavailable(f"its worker broke the contract: {line[:200]!r}") from None
        if not isinstance(reply, dict):
            raise PeerUnavailable(f"its worker broke the contract: {line[:200]!r}")
        if "error" in reply:
            raise PeerUnavailable(f"{reply['error']:.300}")
        return reply

    def _last_words(self) -> str:
        return reason(self._log.read_bytes()[-LAST_WORDS_BYTES:].decode(errors="replace"))

    def _signal(self, number: signal.Signals) -> None:
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):  # it has just ended; the next question says so
                os.killpg(self._process.pid, number)


def worker_environment(threads: int, cache: Path) -> dict[str, str]:
    """Return the variables that give a peer its threads, keep its caches in its folder, and keep it off the network."""
    counts = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return {name: str(threads) for name in counts} | {
        "HF_HUB_OFFLINE": "1",
        "VLLM_CACHE_ROOT": str(cache / "vllm-cache"),
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "PYTHONUNBUFFERED": "1",
    }
