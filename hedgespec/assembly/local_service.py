"""A local service is the whole system in one process, for `hedgespec generate` and the benchmarks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from hedgespec.assembly.local_fleet import LocalFleet, open_local_fleet, together
from hedgespec.assembly.model_sources import load_tokenizer, resolved_target, target_identity
from hedgespec.config import AppArgs
from hedgespec.router.events import Events, NoEvents
from hedgespec.router.service import GenerationService
from hedgespec.store.memory_store import MemoryStore
from hedgespec.store.preferences import Preferences
from hedgespec.tokenization import Tokenizer


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
