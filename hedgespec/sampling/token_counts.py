"""Token counts say how often each token occurs in a session's prompt and answer; penalties read them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hedgespec.sampling.parameter import RowCounts, plan
from hedgespec.types import SamplingParams

if TYPE_CHECKING:
    from torch import Tensor


def token_counts(params: SamplingParams, prompt_ids: ArrayLike, emitted_ids: ArrayLike = ()) -> TokenCounts | None:
    """Count a session's tokens; None if none of its sampling parameters reads counts."""
    return TokenCounts(prompt_ids, emitted_ids) if plan(params).reads_counts else None


class TokenCounts:
    """The tokens of one session; grows by `append`."""

    def __init__(self, prompt_ids: ArrayLike, emitted_ids: ArrayLike = ()) -> None:
        self._ids = np.unique(np.asarray(prompt_ids, np.int64))
        self._num_emitted = np.zeros(len(self._ids), np.float32)
        self._columns = {token: column for column, token in enumerate(self._ids.tolist())}
        self.append(emitted_ids)

    def append(self, token_ids: ArrayLike) -> None:
        """Count emitted tokens."""
        tokens = np.asarray(token_ids, np.int64).tolist()
        self._add_columns(tokens)
        for token in tokens:
            self._num_emitted[self._columns[token]] += 1

    def of_rows(self, logits: Tensor, ancestors: Sequence[Sequence[int]] | None) -> RowCounts:
        """Count, per row, the session's tokens followed by the row's draft ancestors (None: no row has any)."""
        import torch  # only here: drafters without a model need no torch

        ids, is_present, num_emitted = self._with_ancestors(ancestors if ancestors is not None else [()] * len(logits))
        return RowCounts(
            torch.from_numpy(ids).to(logits.device),
            torch.from_numpy(is_present).to(logits.device),
            torch.from_numpy(num_emitted).to(logits.device, logits.dtype),
        )

    def _with_ancestors(
        self, ancestors: Sequence[Sequence[int]]
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.float32]]:
        drafted = sorted({int(token) for row in ancestors for token in row} - self._columns.keys())
        columns = {token: len(self._ids) + offset for offset, token in enumerate(drafted)}
        ids = np.append(self._ids, np.array(drafted, np.int64))
        num_emitted = np.zeros((len(ancestors), len(ids)), np.float32)
        num_emitted[:, : len(self._ids)] = self._num_emitted
        is_present = np.broadcast_to(np.arange(len(ids)) < len(self._ids), num_emitted.shape).copy()
        for row, tokens in enumerate(ancestors):
            for token in tokens:
                column = self._columns.get(int(token), columns.get(int(token), -1))
                num_emitted[row, column] += 1
                is_present[row, column] = True
        return ids, is_present, num_emitted

    def _add_columns(self, tokens: list[int]) -> None:
        new = sorted(set(tokens) - self._columns.keys())
        self._columns.update(zip(new, range(len(self._ids), len(self._ids) + len(new)), strict=True))
        self._ids = np.append(self._ids, np.array(new, np.int64))
        self._num_emitted = np.append(self._num_emitted, np.zeros(len(new), np.float32))
