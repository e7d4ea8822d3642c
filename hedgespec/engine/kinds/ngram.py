"""Kind `ngram`: prompt lookup, which proposes what followed earlier occurrences of the text's end. No model, no torch."""

from __future__ import annotations

from collections.abc import Sequence

from hedgespec.config import DrafterConfig, TargetConfig
from hedgespec.engine.kinds.drafter_kind import DrafterKind, LoadedDrafters


class NgramKind(DrafterKind):
    """Suffix indexes of at most max_cached_tokens tokens each."""

    takes_model = False

    def load(self, configs: Sequence[DrafterConfig], target: TargetConfig) -> LoadedDrafters:
        from hedgespec.models.ngram.ngram_drafter import NgramDrafter

        return {config.id: NgramDrafter(config.id, config.max_cached_tokens) for config in configs}


NGRAM = NgramKind()
