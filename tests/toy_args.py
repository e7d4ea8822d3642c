"""Two exact drafters of one exact target, one close to it and one far away: for benchmarks and services in one process."""

from __future__ import annotations

from hedgespec.config import AppArgs, DrafterConfig, StoreConfig, TargetConfig

NEAR_AND_FAR = AppArgs(
    target=TargetConfig(model="tabular:3", model_name="toy"),
    drafters=(
        DrafterConfig(id="near", kind="tabular", model="tabular:1,closeness=0.95"),
        DrafterConfig(id="far", kind="tabular", model="tabular:2,closeness=0.05"),
    ),
    store=StoreConfig(url="memory://"),
)
