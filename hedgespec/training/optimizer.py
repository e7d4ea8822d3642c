"""The optimizers of a training run: Muon for the matrices of hidden layers, AdamW for everything else."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from hedgespec.training.muon import Float32Muon
from hedgespec.training.precision import multiplies_bfloat16_quickly


class Optimizers:
    """Both optimizers as one, over a module's trainable parameters.

    A parameter counts as an embedding, and goes to AdamW, when it is no matrix or its name contains `embed` or `lm_head`.
    """

    def __init__(self, module: nn.Module, *, matrix_lr: float, embedding_lr: float) -> None:
        named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
        hidden = [p for name, p in named if _is_hidden_matrix(name, p)]
        others = [p for name, p in named if not _is_hidden_matrix(name, p)]
        self._optimizers: list[torch.optim.Optimizer] = [
            _muon(hidden, matrix_lr),
            torch.optim.AdamW(others, lr=embedding_lr, betas=(0.9, 0.95), weight_decay=0.0),
        ]
        self._base = [matrix_lr, embedding_lr]

    def set_rate(self, factor: float) -> None:
        """Scale both learning rates from their base values."""
        for optimizer, base in zip(self._optimizers, self._base, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = base * factor

    def step(self) -> None:
        """Update from the gradients, then clear them."""
        for optimizer in self._optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    def state_dicts(self) -> list[dict[str, Any]]:
        """Return the state of both optimizers, for a checkpoint."""
        return [optimizer.state_dict() for optimizer in self._optimizers]

    def load_state_dicts(self, states: list[dict[str, Any]]) -> None:
        """Restore what `state_dicts` returned."""
        for optimizer, state in zip(self._optimizers, states, strict=True):
            optimizer.load_state_dict(state)


def _muon(matrices: list[nn.Parameter], lr: float) -> torch.optim.Optimizer:
    device = matrices[0].device.type if matrices else "cpu"
    make = torch.optim.Muon if multiplies_bfloat16_quickly(device) else Float32Muon
    return make(matrices, lr=lr, weight_decay=0.02)


def schedule(done: float, *, warmup: float, decay: float) -> float:
    """Return the learning-rate factor when a share of the run is done: linear warm-up, constant, linear decay to zero."""
    if done < warmup:
        return max(done, 0.05 * warmup) / warmup
    return min(1.0, max(0.0, 1.0 - done) / decay)


def _is_hidden_matrix(name: str, parameter: nn.Parameter) -> bool:
    return parameter.ndim == 2 and "embed" not in name and "lm_head" not in name
