"""The frozen target as a teacher: it gives features and logits for whole sequences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from hedgespec.errors import ModelFolderError
from hedgespec.models.eagle3.config import feature_layers


class Teacher:
    """A frozen transformers causal LM whose hidden states are read at the inputs of three decoder layers.

    Raises ModelFolderError when the folder has no config.json.
    """

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        if not (folder / "config.json").is_file():
            raise ModelFolderError(f"No target in {folder}: config.json is missing.")
        self.model: Any = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, use_safetensors=True, trust_remote_code=False
        )
        self.model.to(device).eval().requires_grad_(False)
        layers: nn.ModuleList = self.model.model.layers
        self._taps: dict[int, Tensor] = {}
        self._wanted = feature_layers(len(layers))
        for index in self._wanted:
            layers[index].register_forward_pre_hook(self._tap(index), with_kwargs=True)

    @property
    def config(self) -> Any:
        """The transformers configuration of the target."""
        return self.model.config

    @property
    def embedding(self) -> Tensor:
        """The input embedding, [vocab, hidden]."""
        weight: Tensor = self.model.get_input_embeddings().weight
        return weight

    @property
    def output_embedding(self) -> Tensor:
        """The output matrix (lm_head), [vocab, hidden]."""
        weight: Tensor = self.model.get_output_embeddings().weight
        return weight

    @torch.no_grad()
    def __call__(self, token_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Return features [batch, length, 3 * hidden] and logits [batch, length, vocab] for token_ids [batch, length]."""
        with torch.autocast(token_ids.device.type, dtype=torch.bfloat16):
            logits = self.model(input_ids=token_ids, use_cache=False).logits
        return torch.cat([self._taps[i] for i in self._wanted], dim=-1).float(), logits

    def _tap(self, index: int) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self._taps[index] = args[0] if args else kwargs["hidden_states"]

        return hook
