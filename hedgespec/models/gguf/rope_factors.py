"""Llama 3.1 and later store how they stretch rotary embeddings as a tensor; config.json wants the rule's parameters."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hedgespec.models.gguf.header import GgufHeader
from hedgespec.models.gguf.weights import read_tensor

ROPE_FACTORS = "rope_freqs.weight"

_LOW, _HIGH, _ORIGINAL_CONTEXT = 1.0, 4.0, 8192
"""The same in every published Llama 3; only the factor differs."""


def llama3_rope(header: GgufHeader, theta: float, head_dim: int) -> dict[str, Any]:
    """Return the parameters of the `llama3` rule that gives the file's factors.

    Raises ModelFolderError when the rule does not: these factors cannot be written to config.json.
    """
    stored = read_tensor(header, ROPE_FACTORS)
    factor = round(float(stored.max()), 4)
    if stored.shape != (head_dim // 2,) or not np.allclose(stored, llama3_factors(theta, head_dim, factor), rtol=1e-3):
        raise header.refusal(f"tensor {ROPE_FACTORS!r} does not follow the llama3 rule, which alone is supported")
    return {
        "rope_type": "llama3",
        "rope_theta": theta,
        "factor": factor,
        "low_freq_factor": _LOW,
        "high_freq_factor": _HIGH,
        "original_max_position_embeddings": _ORIGINAL_CONTEXT,
    }


def llama3_factors(theta: float, head_dim: int, factor: float) -> NDArray[np.float64]:
    """Return what each rotary frequency is divided by, [head_dim / 2]: 1 for short waves, `factor` for long ones."""
    wavelengths = 2 * np.pi * theta ** (np.arange(0, head_dim, 2) / head_dim)
    smooth = np.clip((_ORIGINAL_CONTEXT / wavelengths - _LOW) / (_HIGH - _LOW), 0, 1)
    return 1 / ((1 - smooth) / factor + smooth)
