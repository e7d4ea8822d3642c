"""A router's copy of one key: the sums that are its own, and the last good copies of all others."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from hedgespec.store.fields import FOLDED_FIELD, without_folded
from hedgespec.store.record import FoldMark, PreferenceRecord, merged

_EMPTY = PreferenceRecord()


@dataclass(slots=True, eq=False)
class CachedKey:
    """Statistics of one key in memory. Its changes happen between awaits, so a reader never counts anything twice.

    name:         field of the store that `own` is written to; new for every CachedKey, so that one can be given up and
                  made again
    own:          this router's sums under that name; they stay here, so a store that is away loses nothing
    saved:        `own` when the store last confirmed it
    unconfirmed:  `own` at a save that was not answered: the store holds this or `saved`
    others:       field name -> record
    loaded_s, tried_s: monotonic time of the last successful and of the last attempted load
    """

    name: str
    own: PreferenceRecord = _EMPTY
    saved: PreferenceRecord = _EMPTY
    unconfirmed: PreferenceRecord | None = None
    others: Mapping[str, PreferenceRecord] = field(default_factory=dict)
    loaded_s: float | None = None
    tried_s: float = -math.inf
    loading: asyncio.Task[None] | None = None

    @property
    def is_saved(self) -> bool:
        return self.own.sequence == self.saved.sequence

    def everything(self) -> PreferenceRecord:
        return merged((self.own, *self.others.values()))

    def next_save(self) -> PreferenceRecord:
        """Return the record to write. An unconfirmed one comes first, so that the store holds one of two at any time."""
        if self.unconfirmed is None:
            self.unconfirmed = self.own
        return self.unconfirmed

    def confirm(self, record: PreferenceRecord) -> None:
        """Note that the store holds this record now."""
        self.saved, self.unconfirmed = record, None

    def take(self, loaded: Mapping[str, PreferenceRecord], new_name: Callable[[], str]) -> bool:
        """Take over what the store holds. Returns whether `own` has to be written: again, or under a new name.

        Where a fold has taken our field, this router was idle and is alive: what was folded now counts as others', and
        the rest continues under a new name.
        """
        stored = loaded.get(self.name, _EMPTY)
        self.others = _newest(self.others, {name: r for name, r in loaded.items() if name != self.name})
        mark = loaded.get(FOLDED_FIELD, _EMPTY).mark_of(self.name)
        if mark is None:
            return stored.sequence < self.own.sequence
        self.name, self.own = new_name(), self.own.minus(self._folded(mark))
        self.saved, self.unconfirmed = _EMPTY, None
        return not self.is_saved

    def _folded(self, mark: FoldMark) -> PreferenceRecord:
        """Return the state that was folded. A store that had lost its newest write folded an older one than we know."""
        unconfirmed = self.unconfirmed
        return unconfirmed if unconfirmed is not None and unconfirmed.sequence == mark.sequence else self.saved


def _newest(
    known: Mapping[str, PreferenceRecord], loaded: Mapping[str, PreferenceRecord]
) -> dict[str, PreferenceRecord]:
    """Return loaded records, and the last good copy of those that are older or missing (corrupt) now.

    What has been folded counts in the sum alone: a copy of a record that is gone since, a record that was loaded before
    the fold that is known already, and one that a router of a version without marks has written again.
    """
    newer = {name: record for name, record in loaded.items() if record.sequence >= known.get(name, _EMPTY).sequence}
    return without_folded({**known, **newer})
