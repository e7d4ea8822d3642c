"""Preferences of a benchmark's tenants that can be written down answer by answer, and learned again from that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from hedgespec.config import StoreConfig
from hedgespec.store.memory_store import MemoryStore
from hedgespec.store.preferences import Preferences
from hedgespec.store.record import AnswerOutcome, PreferenceKey


class RecordedPreferences(Preferences):
    """Preferences in memory that note what the last answer taught."""

    def __init__(self, config: StoreConfig) -> None:
        super().__init__(MemoryStore(), config)
        self._last: dict[str, Any] | None = None

    def record(self, key: PreferenceKey, outcome: AnswerOutcome) -> None:
        super().record(key, outcome)
        self._last = {"key": asdict(key), "outcome": asdict(outcome)}

    def take(self) -> dict[str, Any] | None:
        """Return what the last answer taught, once; None when it taught nothing."""
        learned, self._last = self._last, None
        return learned

    def learn_again(self, learned: Mapping[str, Any]) -> None:
        """Learn from an answer of an earlier run. learned: from `take`. Raises TypeError for anything else."""
        self.record(PreferenceKey(**learned["key"]), AnswerOutcome(**learned["outcome"]))
        self.take()
