"""Buckets are the few sizes that graphs are captured for; smaller passes are padded to the next one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

BATCHES = (1, 2, 4, 8, 16, 32, 64)
"""Sessions in a pass."""

BLOCKS = (1, 2, 4, 6, 8, 12)
"""Rows of one session: the last token and its draft."""

FIRST_CONTEXT = 512
"""The smallest bucket's context; each further one is twice the one before."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """A pass over `batch` sessions of `block` rows each, all before row `context` of their lanes."""

    batch: int
    block: int
    context: int


class Buckets:
    """The buckets for up to max_batch sessions of up to max_context rows."""

    def __init__(self, max_batch: int, max_context: int) -> None:
        self._batches = _up_to(BATCHES, max_batch)
        contexts = [FIRST_CONTEXT << doublings for doublings in range(32)]
        self.contexts = _up_to(contexts, max_context)

    def __iter__(self) -> Iterator[Bucket]:
        """Yield the largest first: graphs captured later fit into the memory of earlier ones."""
        for context in reversed(self.contexts):
            for batch in reversed(self._batches):
                for block in reversed(BLOCKS):
                    if block <= context:
                        yield Bucket(batch, block, context)

    def smallest(self, batch: int, block: int, end: int) -> Bucket | None:
        """Return the smallest bucket that fits, if any. end: rows of the longest session before this block"""
        own_batch, own_block = _first(self._batches, batch), _first(BLOCKS, block)
        if own_batch is None or own_block is None:
            return None
        context = _first(self.contexts, end + own_block)
        return None if context is None else Bucket(own_batch, own_block, context)


def _up_to(sizes: tuple[int, ...] | list[int], largest: int) -> list[int]:
    """Return the sizes below the largest, and the largest."""
    return [size for size in sizes if size < largest] + [largest]


def _first(sizes: tuple[int, ...] | list[int], at_least: int) -> int | None:
    return next((size for size in sizes if size >= at_least), None)
