"""An engine is one thread that runs a model: each step takes everything that is pending into one batch."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Protocol

from hedgespec.engine.work import Ticket, Work
from hedgespec.errors import ReplicaLost


class Runner(Protocol):
    """The model side of an engine; only the engine's thread calls it."""

    def add(self, ticket: Ticket) -> None:
        """Take in submitted work. Never raises: bad work fails its own ticket."""

    def step(self, now_s: float) -> float | None:
        """Schedule, run and answer one batch.

        Returns the seconds to wait before the next step: 0 when work is left, None when nothing is pending.
        """

    def drain(self) -> list[Ticket]:
        """Give up all pending work and return its tickets."""


class Engine:
    """Runs a `Runner` in its own thread. `submit` and `wake` may be called from any thread.

    prepare: called first in the engine's thread
    Without `start` nothing runs by itself and the caller drives `step`, as tests do.
    """

    def __init__(
        self,
        runner: Runner,
        name: str,
        clock: Callable[[], float] = time.monotonic,
        prepare: Callable[[], None] = lambda: None,
    ) -> None:
        self._runner = runner
        self._prepare = prepare
        self._clock = clock
        self._inbox: deque[Ticket] = deque()
        self._condition = threading.Condition()
        self._is_woken = False
        self._is_idle = False
        self._is_stopped = False
        self._thread = threading.Thread(target=self._loop, name=f"engine-{name}", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def submit(self, work: Work) -> Future[Any]:
        """Queue work. Its future fails with ReplicaLost when the engine stops first."""
        ticket = Ticket(work, self._clock())
        with self._condition:
            if self._is_stopped:
                ticket.fail(ReplicaLost("This replica's engine has stopped."))
            else:
                self._inbox.append(ticket)
                self._is_woken = True
                self._condition.notify()
        return ticket.future

    def wake(self) -> None:
        """Run a step soon, because what waiting work needs may have arrived. Costs nothing while no work is pending."""
        with self._condition:
            if not self._is_idle:
                self._is_woken = True
                self._condition.notify()

    def step(self) -> float | None:
        """Take in submitted work and run one batch; see `Runner.step`."""
        with self._condition:
            arrived = list(self._inbox)
            self._inbox.clear()
            self._is_woken = False
        started = self._clock()
        for ticket in arrived:
            self._runner.add(ticket)
        return self._runner.step(started)

    def stop(self, timeout_s: float = 10.0) -> None:
        """Finish the running step, end the thread and fail everything that is pending."""
        with self._condition:
            self._is_stopped = True
            self._condition.notify()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        with self._condition:
            abandoned = [*self._inbox, *self._runner.drain()]
            self._inbox.clear()
        fail_all(abandoned, ReplicaLost("This replica's engine has stopped."))

    def _loop(self) -> None:
        self._prepare()
        wait_s: float | None = None
        while True:
            with self._condition:
                self._is_idle = wait_s is None
                self._condition.wait_for(lambda: self._is_woken or self._is_stopped, timeout=wait_s)
                self._is_idle = False
                if self._is_stopped:
                    return
            try:
                wait_s = self.step()
            except Exception as error:  # a runner fails tickets itself; any other error must not end the thread
                lost = ReplicaLost(f"This replica's engine failed: {type(error).__name__}: {error}")
                lost.__cause__ = error
                fail_all(self._runner.drain(), lost)
                wait_s = None


def fail_all(tickets: Sequence[Ticket], error: BaseException) -> None:
    """Fail every ticket whose caller still waits."""
    for ticket in tickets:
        if ticket.start():
            ticket.fail(error)
