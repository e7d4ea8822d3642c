"""A local service is the whole system in one process, for `hedgespec generate` and the benchmarks: no gRPC, no Ray."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from hedgespec.assembly.model_sources import (
    load_tokenizer,
    located,
    open_drafters,
    open_target,
    resolved_target,
    target_identity,
)
from hedgespec.config import AppArgs
from hedgespec.errors import TargetUnavailable
from hedgespec.protocols import Drafter, Target
from hedgespec.router.events import Events, NoEvents
from hedgespec.router.service import GenerationService
from hedgespec.store.memory_store import MemoryStore
from hedgespec.store.preferences import Preferences
from hedgespec.tokenization import Tokenizer

LOCAL_GROUP = "local"


class LocalFleet:
    """A `protocols.Fleet` of one target and its drafters; features are handed over by reference.

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
    from hedgespec.engine.local import LocalFeatureTransport

    args = await asyncio.to_thread(located, args)
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


@dataclass(frozen=True, slots=True)
class LocalService:
    """A generation service and the parts that its users also need."""

    service: GenerationService
    tokenizer: Tokenizer
    target_folder: Path
    fleet: LocalFleet
    target_id: str

    def variant(self, args: AppArgs, events: Events | None = None) -> GenerationService:
        """Return another service over the same models, e.g. with another learner; args must name the same drafters."""
        preferences = Preferences(MemoryStore(), args.store)
        return GenerationService(
            together(args), self.fleet, self.tokenizer, preferences, events or NoEvents(), self.target_id
        )


@asynccontextmanager
async def local_service(args: AppArgs) -> AsyncIterator[LocalService]:
    """Load models and tokenizer and yield the service; its preferences live in memory and end with the context."""
    args = await asyncio.to_thread(located, args)
    tokenizer = load_tokenizer(args.target)
    async with open_local_fleet(args) as fleet:
        preferences = Preferences(MemoryStore(), args.store)
        identity = target_identity(args.target)
        service = GenerationService(together(args), fleet, tokenizer, preferences, NoEvents(), identity)
        try:
            yield LocalService(service, tokenizer, Path(resolved_target(args.target).model), fleet, identity)
        finally:
            await service.drain()
            await preferences.close()
