"""Kind `eagle3`: EAGLE-3 heads, which read the target's hidden features; alike heads of one process compute together."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from hedgespec.config import DrafterConfig, TargetConfig
from hedgespec.engine.kinds.drafter_kind import DrafterKind, LoadedDrafters, model_folder


class Eagle3Kind(DrafterKind):
    """Heads in safetensors folders, in int8 on CPUs unless `quantization` is none."""

    takes_int8 = True

    def load(self, configs: Sequence[DrafterConfig], target: TargetConfig) -> LoadedDrafters:
        from hedgespec.engine.served_heads import served_bank
        from hedgespec.models.eagle3.head_drafters import load_eagle3_drafters
        from hedgespec.models.folder import read_config, read_embedding, read_output_matrix

        target_folder = model_folder(target.model, "target")
        hidden_size = int(read_config(target_folder).get("hidden_size", 0))
        located = [c.model_copy(update={"model": str(model_folder(c.model, f"drafter {c.id}"))}) for c in configs]
        output = cache(lambda: read_output_matrix(target_folder))  # read by the first head that leaves its own out
        return load_eagle3_drafters(located, read_embedding(target_folder), hidden_size, served_bank, output)


EAGLE3 = Eagle3Kind()
