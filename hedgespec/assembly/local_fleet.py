"""A `protocols.Fleet` of models in this process: no gRPC, no Ray, features handed over by reference."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from hedgespec.assembly.model_sources import open_drafters, open_target
from hedgespec.config import AppArgs
from hedgespec.errors import TargetUnavailable
from hedgespec.protocols import Drafter, Target

LOCAL_GROUP = "local"


class LocalFleet:
    """One target and its drafters.

    max_leases: requests that may use the target at a time; others wait for at most lease_wait_s seconds
    """

    def __init__(self, target: Target, drafters: Mapping[str, Drafter], max_leases: int, lease_wait_s: float) -> None:
        self.target = target
        self._drafters = dict(drafters)
        self._slots = asyncio.Semaphore(max_leases)
        self._lease_wait_s = lease_wait_s

    def drafters(self) -> Mapping[str, Drafter]:
        return self._drafters

    @asynccontextmanager
    async def lease_target(self) -> AsyncIterator[Target]:
        try:
            async with asyncio.timeout(self._lease_wait_s):
                await self._slots.acquire()
        except TimeoutError as error:
            raise TargetUnavailable(f"The target had no free slot within {self._lease_wait_s:g} s.") from error
        try:
            yield self.target
        finally:
            self._slots.release()


def together(args: AppArgs) -> AppArgs:
    """Return the configuration with all drafters in one group, as one process needs it.

    Threads of one process only take turns; a shared engine runs drafts before scores, and alike heads in one pass.
    """
    drafters = tuple(config.model_copy(update={"group": LOCAL_GROUP}) for config in args.drafters)
    return args.model_copy(update={"drafters": drafters})


@asynccontextmanager
async def open_local_fleet(args: AppArgs) -> AsyncIterator[LocalFleet]:
    """Load every model of the configuration in one process; leaving the context stops their engines."""
    from hedgespec.engine.local_features import LocalFeatureTransport

    transport = LocalFeatureTransport()
    target = await asyncio.to_thread(open_target, args.target, transport)
    drafters = await asyncio.to_thread(open_drafters, together(args).drafters, args.target)
    for drafter in drafters.values():
        if drafter.feature_sink:
            transport.register(drafter.drafter_id, drafter)  # type: ignore[arg-type]  # engine drafters are sinks
    try:
        yield LocalFleet(target, drafters, args.target.max_sessions, args.speculation.open_deadline_s)
    finally:
        for model in (target, *drafters.values()):
            stop = getattr(model, "stop", None)
            if stop is not None:
                await asyncio.to_thread(stop)
