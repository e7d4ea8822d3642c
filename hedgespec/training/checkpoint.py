"""Checkpoints of a training run: weights, optimizers and counters, bound to the run's recipe."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hedgespec.errors import ConfigError
from hedgespec.training.optimizer import Optimizers


class Checkpoint:
    """One checkpoint file, which is replaced as a whole.

    recipe: everything that decides the result of the run; a file with another recipe is refused
    """

    def __init__(self, path: Path, recipe: Mapping[str, Any], model: nn.Module, optimizers: Optimizers) -> None:
        self._path, self._recipe, self._model, self._optimizers = path, dict(recipe), model, optimizers

    def save(self, **counters: float) -> None:
        """Write the file; a crash in between leaves the previous one."""
        weights, optimizers = self._model.state_dict(), self._optimizers.state_dicts()
        state = {"settings": self._recipe, "model": weights, "optimizers": optimizers, **counters}
        partial = self._path.with_suffix(".partial")
        torch.save(state, partial)
        os.replace(partial, self._path)

    def load(self, device: str) -> dict[str, Any] | None:
        """Put the file's state into the model and the optimizers and return it; None when there is no file.

        Raises ConfigError when the file is from another recipe.
        """
        if not self._path.is_file():
            return None
        state: dict[str, Any] = torch.load(self._path, map_location=device, weights_only=True)
        if state["settings"] != self._recipe:
            raise ConfigError(f"{self._path} was written with other settings; remove it to start again.")
        self._model.load_state_dict(state["model"])
        self._optimizers.load_state_dicts(state["optimizers"])
        return state
