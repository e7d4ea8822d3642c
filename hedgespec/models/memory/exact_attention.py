"""Attention on the CPU whose result for a row does not depend, bit for bit, on how many rows are computed at once.

A product of few rows adds in another order than one of many, and so does a sum over more keys, even if the further ones are
masked. A rounded target turns such a last bit into a step of its rounding, and then a draft could change the text. So a row
always attends to its whole group of keys, of which later ones are masked, together with the rows of its group alone, and in
at least as many queries as the general product takes.
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


def pieces(start: int, num_rows: int) -> list[tuple[int, int]]:
    """Split consecutive rows into (start, num_rows) that attend by themselves: those of one group, or single rows where
    torch's attention is not exact here."""
    group = GROUP if query_step() else 1
    ends = [*range((start // group + 1) * group, start + num_rows, group), start + num_rows]
    return [(first, end - first) for first, end in zip([start, *ends], ends, strict=False)]


def piece_mask(start: int, num_rows: int, window: int | None) -> Tensor:
    """Mask a piece: 0 and -inf, [num_queries, num_keys], both rounded up. window: see `attention.LayerShape`"""
    num_queries = -(-num_rows // max(query_step(), 1)) * max(query_step(), 1)
    num_keys = -(-(start + num_rows) // GROUP) * GROUP
    mask = torch.full((num_queries, num_keys), -torch.inf).triu_(start + 1)
    if window is not None:
        mask += torch.full((num_queries, num_keys), -torch.inf).tril_(start - window)
    mask[num_rows:] = 0.0  # a row that sees nothing would be no number
    return mask


@cache
@torch.inference_mode()
def query_step() -> int:
    """Return the multiple of queries that makes torch's attention exact on this machine; 0 if none does."""
    return next((step for step in _QUERY_STEPS if _is_exact(step)), 0)


def _is_exact(step: int) -> bool:
    """Compare queries computed `step` at once with the same ones in larger groups, for some lengths and head sizes."""
    noise = torch.Generator().manual_seed(0)
    for num_heads, head_dim in ((9, 64), (4, 8), (2, 128)):
        for num_keys in (GROUP, 5 * GROUP, 9 * GROUP, 33 * GROUP):
            query, key, value = (
                torch.randn(1, num_heads, rows, head_dim, generator=noise) for rows in (GROUP, num_keys, num_keys)
            )
            mask = torch.zeros(GROUP, num_keys).masked_fill_(
                torch.rand(GROUP, num_keys, generator=noise) < 0.2, -torch.inf
            )
            expected = torch.cat(
                [
                    scaled_dot_product_attention(query[:, :, i : i + step], key, value, attn_mask=mask[i : i + step])
                    for i in range(0, GROUP, step)
                ],
                dim=2,
            )
            for rows in range(step, GROUP + 1, step):
                last = query[:, :, GROUP - rows :], key, value
                together = scaled_dot_product_attention(*last, attn_mask=mask[GROUP - rows :])
                if not torch.equal(together, expected[:, :, GROUP - rows :]):
                    return False
    return True
