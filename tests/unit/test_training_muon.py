"""Muon in float32 computes what torch's own does, within the rounding of torch's bfloat16."""

from __future__ import annotations

import torch
from torch import nn

from hedgespec.training.muon import Float32Muon, orthogonal


def test_steps_equal_torchs_own_within_bfloat16() -> None:
    generator = torch.Generator().manual_seed(0)
    starts = [torch.randn(shape, generator=generator) for shape in ((24, 16), (16, 40))]
    ours, theirs = ([nn.Parameter(start.clone()) for start in starts] for _ in range(2))
    optimizers = Float32Muon(ours, lr=0.1, weight_decay=0.02), torch.optim.Muon(theirs, lr=0.1, weight_decay=0.02)
    for _ in range(4):
        for own, other in zip(ours, theirs, strict=True):
            own.grad = torch.randn(own.shape, generator=generator)
            other.grad = own.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for start, own, other in zip(starts, ours, theirs, strict=True):
        assert (own - other).norm() < 0.02 * (own - start).norm()


def test_the_orthogonal_factor_has_singular_values_near_one_and_the_same_directions() -> None:
    matrix = torch.randn(20, 12, generator=torch.Generator().manual_seed(1))
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    inner = u.T @ orthogonal(matrix) @ v.T
    assert bool(((inner.diagonal() > 0.6) & (inner.diagonal() < 1.3)).all())
    assert (inner - torch.diag(inner.diagonal())).abs().max() < 1e-3
    assert orthogonal(torch.zeros(3, 2)).abs().max() == 0


def test_a_matrix_without_a_gradient_stays() -> None:
    matrix = nn.Parameter(torch.ones(2, 2))
    Float32Muon([matrix], lr=0.1, weight_decay=0.5).step()
    assert torch.equal(matrix, torch.ones(2, 2))
