"""A buffer of the target's features for one drafter. They come in any order, also twice, and are taken by position."""

from __future__ import annotations

import math
import threading
from bisect import bisect_right, insort
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from hedgespec.types import FeatureBlock

MAX_REMEMBERED = 1024
"""The last so many closed sessions are remembered: features that arrive for them late are dropped."""


class FeatureBuffer:
    """The buffered features of one drafter's sessions.

    width: 3 * target hidden size. max_rows: bound over all sessions; what does not fit is dropped.

    Blocks may come before their session is opened (the target can be faster than we are): they wait in the same buffer,
    and make room, oldest session first, when it is full. Every method may be called from any thread.
    """

    def __init__(self, width: int, max_rows: int) -> None:
        self._width = width
        self._max_rows = max_rows
        self._lock = threading.Lock()
        self._sessions: dict[str, _Rows] = {}
        self._closed: dict[str, None] = {}
        self._num_rows = 0

    @property
    def num_rows(self) -> int:
        """Return how many rows wait to be taken."""
        return self._num_rows

    @property
    def num_sessions(self) -> int:
        """Return how many sessions are open or have features."""
        return len(self._sessions)

    def open(self, session_id: str) -> None:
        with self._lock:
            self._closed.pop(session_id, None)
            self._sessions.setdefault(session_id, _Rows()).is_open = True

    def close(self, session_id: str) -> None:
        with self._lock:
            self._remove(session_id)
            self._closed[session_id] = None
            if len(self._closed) > MAX_REMEMBERED:
                del self._closed[next(iter(self._closed))]

    def push(self, block: FeatureBlock) -> None:
        """Keep a block's new rows.

        Ignores rows that were consumed already, misshapen blocks, features of closed sessions, and what finds no room.
        """
        with self._lock:
            num_rows = len(block.rows)
            if block.rows.ndim != 2 or block.rows.shape[1] != self._width or block.start_position < 0:
                return
            if block.session_id in self._closed:
                return
            session = self._sessions.setdefault(block.session_id, _Rows())
            self._make_room(num_rows, session)
            if self._num_rows + num_rows <= self._max_rows:
                session.num_arrivals += 1
                self._num_rows += session.add(block.start_position, block.rows)

    def has(self, session_id: str, position: int) -> bool:
        with self._lock:
            session = self._sessions[session_id]
            return position <= session.consumed or session.holds(position)

    def num_arrivals(self, session_id: str) -> int:
        """Return a number that rises when anything arrives for the session."""
        with self._lock:
            return self._sessions[session_id].num_arrivals

    def take(self, session_id: str, end: int) -> tuple[list[int], Tensor]:
        """Remove and return what has arrived before position `end`: rising positions and rows [num_positions, width].

        Positions up to the last one returned count as consumed: what arrives for them later is ignored.
        """
        with self._lock:
            session = self._sessions[session_id]
            positions, rows = session.take(end)
            self._num_rows -= len(positions)
        features = _as_tensor(rows, self._width)
        if math.isfinite(float(features.sum())):  # a tenth of the time that looking at every value takes
            return positions, features
        is_finite = torch.isfinite(features).all(dim=-1)
        return [p for p, good in zip(positions, is_finite.tolist(), strict=True) if good], features[is_finite]

    def _make_room(self, num_rows: int, session: _Rows) -> None:
        while self._num_rows + num_rows > self._max_rows:
            orphans = [k for k, rows in self._sessions.items() if not rows.is_open and rows is not session]
            if not orphans:
                return
            self._remove(orphans[0])

    def _remove(self, session_id: str) -> None:
        session = self._sessions.pop(session_id, None)
        if session is not None:
            self._num_rows -= session.num_rows


class _Rows:
    """The buffered rows of one session: pieces of blocks by position, no position twice."""

    def __init__(self) -> None:
        self.is_open = False
        self.consumed = -1
        self.num_arrivals = 0
        self._pieces: list[tuple[int, np.ndarray]] = []  # first position, rows; rising

    @property
    def num_rows(self) -> int:
        return sum(len(rows) for _, rows in self._pieces)

    def add(self, start: int, rows: np.ndarray) -> int:
        """Keep what is new; return how many rows that is."""
        first, last = self._pieces[-1] if self._pieces else (self.consumed, [None])
        if start >= first + len(last):  # the usual case: behind everything
            self._pieces.append((start, rows))
            return len(rows)
        new = [index for index in range(len(rows)) if start + index > self.consumed and not self.holds(start + index)]
        for index in new:
            insort(self._pieces, (start + index, rows[index : index + 1]), key=_first_of)
        return len(new)

    def holds(self, position: int) -> bool:
        index = bisect_right(self._pieces, position, key=_first_of) - 1
        return index >= 0 and position < self._pieces[index][0] + len(self._pieces[index][1])

    def take(self, end: int) -> tuple[list[int], list[np.ndarray]]:
        """Remove and return what stands before `end`: rising positions, and their rows in pieces."""
        positions: list[int] = []
        taken, left = [], []
        for first, rows in self._pieces:
            num_taken = min(max(end - first, 0), len(rows))
            if num_taken:
                taken.append(rows[:num_taken])
                positions += range(first, first + num_taken)
            if num_taken < len(rows):
                left.append((first + num_taken, rows[num_taken:]))
        self._pieces = left
        if positions:
            self.consumed = positions[-1]
        return positions, taken


def _first_of(piece: tuple[int, np.ndarray]) -> int:
    return piece[0]


def _as_tensor(pieces: Sequence[np.ndarray], width: int) -> Tensor:
    """Return rows of float32, or of uint16 that holds the bits of bfloat16, as float32: [num_rows, width]."""
    if not pieces:
        return torch.zeros((0, width))
    wide = [rows.astype(np.uint32) << 16 if rows.dtype == np.uint16 else rows for rows in pieces]
    joined = np.concatenate([rows.view(np.float32) if rows.dtype == np.uint32 else rows for rows in wide])
    return torch.from_numpy(joined.astype(np.float32, copy=False))
