"""Attention on the CPU whose result for a row does not depend, bit for bit, on how many rows are computed at once.

A product of few rows adds in another order than one of many, and so does a sum over more keys, even if the further ones are
masked. A rounded target turns such a last bit into a step of its rounding, and then a draft could change the text. So a row
always attends to its whole group of keys, of which later ones are masked, together with the rows of its group alone, and in
at least as many queries as the general product takes. Heads that share keys are queries of one head: keys are read once.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from hedgespec.models.memory.kv_memory import CAPACITY_STEP

GROUP = CAPACITY_STEP
"""Rows that attend together, and the multiple that their keys are padded to."""

_QUERY_STEPS = (4, 8, 16, 32)
"""Multiples of queries to try."""

SINGLE_STEP = 4
"""The multiple for rows that attend by themselves, which is always the same number of queries then."""

_TRIED = (*range(4, 69, 4), 96, 128, 192, 256, 512, 1024)
"""Query counts that are compared; torch works in tiles of 32, of 64 from 192 queries on, and of 256 from 768 on."""


def pieces(start: int, num_rows: int) -> list[tuple[int, int]]:
    """Split consecutive rows into (start, num_rows) that attend by themselves: those of one group, or single rows where
    torch's attention is not exact here."""
    group = GROUP if query_step() else 1
    ends = [*range((start // group + 1) * group, start + num_rows, group), start + num_rows]
    return [(first, end - first) for first, end in zip([start, *ends], ends, strict=False)]


def piece_mask(start: int, num_rows: int, window: int | None, num_sharing: int) -> Tensor:
    """Mask a piece: 0 and -inf, [num_queries, num_keys]; both are rounded up, and queries are always more than num_rows.

    window, num_sharing: see `attention.LayerShape`; the rows of every sharing head follow those of the one before
    """
    num_keys = -(-(start + num_rows) // GROUP) * GROUP
    mask = torch.full((num_rows, num_keys), -torch.inf).triu_(start + 1)
    if window is not None:
        mask += torch.full((num_rows, num_keys), -torch.inf).tril_(start - window)
    step, num_queries = query_step() or SINGLE_STEP, num_sharing * num_rows
    num_spare = -num_queries % step
    if num_queries + num_spare == num_rows:
        num_spare = step
    return torch.cat([*(mask for _ in range(num_sharing)), torch.zeros(num_spare, num_keys)])


@cache
@torch.inference_mode()
def query_step() -> int:
    """Return the multiple of queries that makes torch's attention exact on this machine; 0 if none does."""
    return next((step for step in _QUERY_STEPS if _is_exact(step)), 0)


def _is_exact(step: int) -> bool:
    """Compare queries computed `step` at once with the same ones among more, for some numbers of keys and head sizes."""
    noise, most = torch.Generator().manual_seed(0), max(_TRIED)
    for num_keys, head_dim in ((GROUP, 64), (9 * GROUP, 8), (5 * GROUP, 128), (17 * GROUP, 64)):
        query, key, value = (torch.randn(1, 2, rows, head_dim, generator=noise) for rows in (most, num_keys, num_keys))
        mask = torch.zeros(most, num_keys)
        mask.masked_fill_(torch.rand(most, num_keys, generator=noise) < 0.2, -torch.inf)
        alone = [
            scaled_dot_product_attention(query[:, :, i : i + step], key, value, attn_mask=mask[i : i + step])
            for i in range(0, most, step)
        ]
        expected = torch.cat(alone, dim=2)
        for rows in _TRIED:
            together = scaled_dot_product_attention(query[:, :, -rows:], key, value, attn_mask=mask[-rows:])
            if rows % step == 0 and not torch.equal(together, expected[:, :, -rows:]):
                return False
    return True
