"""Passes are compiled where torch can, and compute the same where it cannot."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from hedgespec.models.lean.lean_heads import LeanPasses
from hedgespec.models.lean.scripting import exported, scripted
from tests.unit.test_static_drafts import Loaded, assert_same, drafts_of, folders, load

__all__ = ["folders"]  # a fixture


class Doubled(nn.Module):
    def forward(self, states: Tensor) -> Tensor:
        return self.twice(states)

    @exported
    def twice(self, states: Tensor) -> Tensor:
        return 2 * states


class Uncompilable(nn.Module):
    def forward(self, states: Tensor) -> Tensor:
        return states + len({str(size) for size in states.shape})


def test_a_module_and_its_exported_methods_are_compiled() -> None:
    module = scripted(Doubled())
    assert isinstance(module, torch.jit.ScriptModule)
    assert module(torch.ones(2)).tolist() == module.twice(torch.ones(2)).tolist() == [2.0, 2.0]


def test_what_torch_cannot_compile_runs_as_it_is() -> None:
    module = Uncompilable()
    assert scripted(module) is module


def test_heads_draft_the_same_with_a_torch_that_compiles_nothing(
    folders: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = drafts_of(load(folders, "cpu"))

    def gone(module: nn.Module) -> None:
        raise RuntimeError("torch.jit.script has been removed")

    monkeypatch.setattr(torch.jit, "script", gone)
    loaded = Loaded(folders, "cpu")
    assert isinstance(loaded.bank.passes, LeanPasses)
    assert not isinstance(loaded.bank.passes.stack, torch.jit.ScriptModule)
    for tree, other in zip(drafts_of(loaded.drafters), compiled, strict=True):
        assert_same(tree, other)
