"""Kind `causal_lm`: a smaller language model with the target's vocabulary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from hedgespec.engine.kinds.drafter_kind import DrafterKind, model_folder

if TYPE_CHECKING:
    from hedgespec.config import DrafterConfig, TargetConfig
    from hedgespec.models.causal_lm.drafter import CausalLmDrafter


class CausalLmKind(DrafterKind):
    """Language models in safetensors folders."""

    def load(self, configs: Sequence[DrafterConfig], target: TargetConfig) -> Mapping[str, CausalLmDrafter]:
        import torch

        from hedgespec.models.causal_lm.drafter import load_causal_lm_drafter
        from hedgespec.models.cpu.lean_network import accelerate
        from hedgespec.models.folder import read_embedding

        torch.set_num_threads(max(config.num_threads for config in configs))
        vocab_size = len(read_embedding(model_folder(target.model, "target")))

        def load(config: DrafterConfig) -> CausalLmDrafter:
            folder = model_folder(config.model, f"drafter {config.id}")
            limits = config.max_sessions, config.max_cached_tokens
            drafter = load_causal_lm_drafter(config.id, folder, config.device, vocab_size, *limits)
            accelerate(drafter.model)
            return drafter

        return {config.id: load(config) for config in configs}


CAUSAL_LM = CausalLmKind()
