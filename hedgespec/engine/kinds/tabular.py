"""Kind `tabular`: exact random models over a small alphabet, for tests and demos; they need a tabular target."""

from __future__ import annotations

from collections.abc import Sequence

from hedgespec.config import DrafterConfig, TargetConfig
from hedgespec.engine.kinds.drafter_kind import DrafterKind, LoadedDrafters
from hedgespec.errors import ConfigError
from hedgespec.models.tabular_source import TABULAR, TabularSource


class TabularKind(DrafterKind):
    """Models named `tabular:SEED...` (`TabularSource`), which run without an engine."""

    def check(self, config: DrafterConfig) -> None:
        super().check(config)
        TabularSource.parse(config.model or "")

    def load(self, configs: Sequence[DrafterConfig], target: TargetConfig) -> LoadedDrafters:
        from hedgespec.models.tabular import TabularDrafter

        if not target.model.startswith(TABULAR):
            raise ConfigError(f"drafter {configs[0].id!r}: kind tabular needs a tabular target, not {target.model!r}")
        target_model = TabularSource.parse(target.model).target_model()
        drafters = {}
        for config in configs:
            source = TabularSource.parse(config.model or "")
            model = target_model.related(source.closeness, source.seed)
            drafters[config.id] = TabularDrafter(config.id, model, source.delay_s)
        return drafters


TABULAR_KIND = TabularKind()
