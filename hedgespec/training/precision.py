"""Training computes in bfloat16 where the machine multiplies it quickly, and in float32 elsewhere."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch


def mixed_precision(device: str) -> AbstractContextManager[None]:
    """Return a context in which products are computed in bfloat16 where that is quick."""
    return torch.autocast(torch.device(device).type, dtype=torch.bfloat16, enabled=multiplies_bfloat16_quickly(device))


def multiplies_bfloat16_quickly(device: str) -> bool:
    """Whether products of bfloat16 are quicker than of float32; on a CPU without AVX-512 they take four times as long."""
    return torch.device(device).type != "cpu" or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
