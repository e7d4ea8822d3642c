"""The loop that every worker runs: a job, then lines of prompts, each answered by one line.

`hedgespec/bench/peers/contract.py` says what the lines hold.

Workers are run by a peer's own Python and import nothing of HedgeSpec.
"""

import ctypes
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

Job = dict[str, Any]
Decode = Callable[[list[list[int]], int], list["TimedAnswer"]]
"""(prompts, max_tokens) -> their answers, decoded at once"""

_PR_SET_PDEATHSIG = 1


class TimedAnswer:
    """The ids of one answer as they come, and the times of the first and the last of them."""

    def __init__(self) -> None:
        self.token_ids: list[int] = []
        self._started = time.perf_counter()
        self._seconds = self._first_s = 0.0

    def elapsed(self) -> float:
        return time.perf_counter() - self._started

    def add(self, token_ids: list[int], first_s: float | None = None) -> None:
        """Add the next ids. first_s: when the first of all came, where that is known better; NaN where it is not known."""
        self._seconds = self.elapsed()
        if not self.token_ids:
            self._first_s = self._seconds if first_s is None else first_s
        self.token_ids += token_ids

    def as_json(self) -> dict[str, Any]:
        return {
            "token_ids": self.token_ids,
            "seconds": self._seconds,
            "first_token_s": self._first_s,
        }


def serve(load: Callable[[Job], tuple[str, Decode]]) -> None:
    """Answer lines until the input ends. load: loads the model and returns the package's version and how to decode."""
    _end_with_parent()
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print must not get between the replies
    try:
        version, decode = load(json.loads(sys.stdin.readline()))
        print(json.dumps({"ready": True, "version": version}), file=replies)
        for line in sys.stdin:
            request = json.loads(line)
            started = time.perf_counter()
            answers = decode(request["prompts"], request["max_tokens"])
            seconds = time.perf_counter() - started
            print(json.dumps({"seconds": seconds, "answers": [a.as_json() for a in answers]}), file=replies)
    except Exception as error:  # whatever the package raises, the benchmark goes on without it
        lines = [line for line in str(error).splitlines() if line.strip()]
        print(json.dumps({"error": f"{type(error).__name__}: {lines[-1] if lines else ''}"}), file=replies)
        raise


def _end_with_parent() -> None:
    """Ask Linux to kill this process when its parent ends: a stopped process would not notice and keep its memory."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
