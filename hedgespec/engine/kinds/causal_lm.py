"""Kind `causal_lm`: a smaller language model with the target's vocabulary."""

from __future__ import annotations

from collections.abc import Sequence

from hedgespec.config import DrafterConfig, TargetConfig
from hedgespec.engine.kinds.drafter_kind import DrafterKind, LoadedDrafters, model_folder


class CausalLmKind(DrafterKind):
    """Language models in safetensors folders."""

    def load(self, configs: Sequence[DrafterConfig], target: TargetConfig) -> LoadedDrafters:
        from hedgespec.models.causal_lm.lm_drafter import load_causal_lm_drafter
        from hedgespec.models.folder import read_embedding
        from hedgespec.models.lean.lean_network import accelerate

        vocab_size = len(read_embedding(model_folder(target.model, "target")))
        drafters = {}
        for config in configs:
            folder = model_folder(config.model, f"drafter {config.id}")
            limits = config.max_sessions, config.max_cached_tokens
            about = config.id, folder, config.device, vocab_size
            drafters[config.id] = load_causal_lm_drafter(*about, *limits, accelerate)
        return drafters


CAUSAL_LM = CausalLmKind()
