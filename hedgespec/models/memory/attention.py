"""Attention of one packed pass: rows of all sessions stand in one sequence, and each session sees only its own KV slot.

transformers calls it through `causal_lm.network`; EAGLE-3 heads call it directly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hedgespec.models.memory.exact_attention import piece_mask, pieces
from hedgespec.models.memory.kv_memory import KvSlot
from hedgespec.models.memory.planned_attention import AttentionPlan, attend_planned


@dataclass(frozen=True, slots=True)
class Rows:
    """Consecutive packed rows of one session, written to its slot from row `start` on.

    parent: [num_rows], parent[i] < i is the row that row i follows, -1 the slot's last one; None is a chain
    """

    slot: KvSlot
    start: int
    num_rows: int
    parent: NDArray[np.int32] | None = None

    @property
    def end(self) -> int:
        return self.start + self.num_rows


@dataclass(frozen=True, slots=True)
class LayerShape:
    """What attention needs to know of a decoder layer.

    index:  its KV layer
    window: a row sees itself and the window - 1 rows before it; None for all
    num_sharing: heads of queries that share a head of keys and values; only `exact_attention` needs it
    """

    index: int
    num_kv_heads: int
    head_dim: int
    window: int | None
    num_sharing: int = 1


class PassAttention(Protocol):
    """The attention that a network's layers call in one pass: `PackedAttention`, or one on fixed buffers."""

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float, window: int | None = None
    ) -> Tensor:
        """Store the new keys and values and attend to them and to all earlier rows of the same session.

        query: [1, num_heads, total_rows, head_dim]; key, value: [1, num_kv_heads, total_rows, head_dim]
        window: see `LayerShape`. Returns [1, num_heads, total_rows, head_dim].
        """
        ...


class PackedAttention:
    """The attention of one pass over these rows. Masks are built once and shared by all layers.

    num_spare: rows after all others that no session owns; their outputs mean nothing
    is_row_exact: attend in the pieces of `exact_attention.pieces`. Rows of a tree do not
    """

    def __init__(
        self,
        rows: Sequence[Rows],
        dtype: torch.dtype,
        device: torch.device,
        num_spare: int = 0,
        *,
        is_row_exact: bool = False,
    ) -> None:
        self._is_row_exact = is_row_exact
        self._rows = [piece for own in rows for piece in _pieces(own)] if is_row_exact else rows
        self._sizes = [*(r.num_rows for r in self._rows), num_spare]
        self._dtype = dtype
        self._device = device
        self._masks: dict[tuple[int, ...], Tensor] = {}

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float, window: int | None = None
    ) -> Tensor:
        """See `PassAttention`."""
        shape = LayerShape(layer, key.shape[1], key.shape[3], window, query.shape[1] // key.shape[1])
        return attend_planned(self.plan([shape]), 0, query, key, value, scale)

    def plan(self, layers: Sequence[LayerShape]) -> AttentionPlan:
        """Describe the pass through these layers by numbers and tensors alone."""
        keys, values, masks, is_causal = [], [], [], []
        for layer in layers:
            for session, rows in enumerate(self._rows):
                stored = rows.slot.stored(layer.index, layer.num_kv_heads, layer.head_dim, self._dtype, self._device)
                mask = self._mask(session, layer.window, layer.num_sharing)
                keys.append(stored[0])
                values.append(stored[1])
                masks.append(mask)
                is_causal.append(mask is None and rows.num_rows > 1)
        starts = [rows.start for rows in self._rows]
        return AttentionPlan(self._sizes, starts, keys, values, masks, is_causal)

    def _mask(self, session: int, window: int | None, num_sharing: int) -> Tensor | None:
        """Return a mask of 0 and -inf as in `AttentionPlan`, shared by sessions that need the same; None where causal
        attention, or no mask, is enough."""
        rows = self._rows[session]
        if window is not None and rows.end <= window:
            window = None
        if self._is_row_exact and rows.parent is None:
            piece = rows.start, rows.num_rows, window or -1, num_sharing
            if piece not in self._masks:
                mask = piece_mask(rows.start, rows.num_rows, window, num_sharing)
                self._masks[piece] = mask.to(self._device, self._dtype)
            return self._masks[piece]
        is_plain = window is None and rows.parent is None
        if is_plain and (rows.start == 0 or rows.num_rows == 1):
            return None
        key = (rows.start, rows.num_rows) if is_plain else (session, -1, window or -1)
        if key not in self._masks:
            self._masks[key] = self._build_mask(rows, window)
        return self._masks[key]

    def _build_mask(self, rows: Rows, window: int | None) -> Tensor:
        if window is None and rows.parent is None:
            hidden = torch.full((rows.num_rows, rows.end), -torch.inf, dtype=self._dtype, device=self._device)
            return hidden.triu_(rows.start + 1)
        visible = torch.from_numpy(visible_rows(rows, window))
        mask = torch.zeros(visible.shape, dtype=self._dtype).masked_fill_(~visible, -torch.inf)
        return mask.to(self._device)


def _pieces(rows: Rows) -> list[Rows]:
    if rows.parent is not None:
        return [rows]
    return [Rows(rows.slot, start, num_rows) for start, num_rows in pieces(rows.start, rows.num_rows)]


def visible_rows(rows: Rows, window: int | None) -> NDArray[np.bool_]:
    """Mark the slot rows that each new row attends to, [num_rows, end]."""
    old = np.ones((rows.num_rows, rows.start), bool)
    new = np.tri(rows.num_rows, dtype=bool) if rows.parent is None else ancestors(rows.parent)
    visible = np.concatenate([old, new], axis=1)
    if window is not None:
        own = rows.start + depths(rows.parent, rows.num_rows)
        positions = np.concatenate([np.arange(rows.start), own])
        visible &= positions[None, :] > own[:, None] - window
    return visible


def ancestors(parent: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Mark each row's ancestors and the row itself, [num_rows, num_rows]."""
    is_ancestor = np.eye(len(parent), dtype=bool)
    for row, above in enumerate(parent.tolist()):
        if above >= 0:
            is_ancestor[row] |= is_ancestor[above]
    return is_ancestor


def depths(parent: NDArray[np.int32] | None, num_rows: int) -> NDArray[np.int64]:
    """Count each row's ancestors within its block, [num_rows]."""
    if parent is None:
        return np.arange(num_rows)
    num_above: NDArray[np.int64] = ancestors(parent).sum(axis=1) - 1
    return num_above
