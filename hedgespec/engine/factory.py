"""Build running targets and drafters from their configuration. torch is imported when a model that needs it is loaded."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial

from hedgespec.catalogue import DRAFTER_KINDS
from hedgespec.config import DrafterConfig, TargetConfig
from hedgespec.engine.drafter_engine import DrafterRunner
from hedgespec.engine.engine import Engine
from hedgespec.engine.kinds.drafter_kind import LoadedDrafters, model_folder
from hedgespec.engine.local import LocalDrafter, LocalTarget
from hedgespec.models.drafter_model import DrafterModel
from hedgespec.protocols import Drafter, FeatureTransport


def build_target(config: TargetConfig, transport: FeatureTransport) -> LocalTarget:
    """Load a target and start its engine. `config.model` is a folder; the caller has resolved `zoo`.

    Raises ModelFolderError, ConfigError.
    """
    import torch

    from hedgespec.engine.graphs import decode_in_graphs
    from hedgespec.engine.target_engine import TargetRunner
    from hedgespec.models.causal_lm.folder import load_causal_lm
    from hedgespec.models.lean.lean_network import accelerate

    torch.set_num_threads(config.threads)
    model = load_causal_lm(model_folder(config.model, "target"), config.device, "target")
    accelerate(model, config.quantization)
    if config.device == "cuda" and config.cuda_graphs:
        from hedgespec.models.graphs.static_passes import use_static_passes

        decode_in_graphs("target", partial(use_static_passes, model), config)
    runner = TargetRunner(model, transport, config.max_sessions, config.max_cached_tokens, config.prefix_cache_tokens)
    engine = Engine(runner, "target", prepare=partial(use_threads, config.threads))
    engine.start()
    return LocalTarget(engine, runner.usage)


def build_drafters(configs: Sequence[DrafterConfig], target: TargetConfig) -> dict[str, Drafter]:
    """Load drafters and start one engine per drafter or group, in the configured order.

    `model` of each, and of the target whose vocabulary and embedding they share, is a folder. Raises ModelFolderError,
    ConfigError.
    """
    groups: dict[str, list[DrafterConfig]] = {}
    for config in configs:
        group = f"group {config.group}" if config.group is not None else config.id
        groups.setdefault(group, []).append(config)
    drafters: dict[str, Drafter] = {}
    for group, members in groups.items():
        drafters |= _started(group, load_drafters(members, target), max(config.threads for config in members))
    return {config.id: drafters[config.id] for config in configs}


def load_drafters(configs: Sequence[DrafterConfig], target: TargetConfig) -> dict[str, DrafterModel | Drafter]:
    """Load the drafters of one process, those of one kind together (`DrafterKind.load`)."""
    use_threads(max(config.threads for config in configs))
    by_kind: dict[str, list[DrafterConfig]] = {}
    for config in configs:
        by_kind.setdefault(config.kind, []).append(config)
    loaded: dict[str, DrafterModel | Drafter] = {}
    for kind, members in by_kind.items():
        loaded |= DRAFTER_KINDS.load(kind).load(members, target)
    return loaded


def use_threads(num_threads: int) -> None:
    """Let torch compute with so many threads whatever the calling thread asks of it; others keep theirs."""
    torch = sys.modules.get("torch")  # a process of drafters without networks never imports it
    if torch is not None:
        torch.get_num_threads()  # the first question in a thread sets its number to the process's newest
        torch.set_num_threads(num_threads)


def _started(group: str, loaded: LoadedDrafters, num_threads: int) -> dict[str, Drafter]:
    """Run the models among the loaded drafters in one engine."""
    models = {drafter_id: model for drafter_id, model in loaded.items() if not isinstance(model, Drafter)}
    drafters = {drafter_id: drafter for drafter_id, drafter in loaded.items() if isinstance(drafter, Drafter)}
    if models:
        engine = Engine(DrafterRunner(models), group, prepare=partial(use_threads, num_threads))
        engine.start()
        drafters |= {drafter_id: LocalDrafter(engine, model) for drafter_id, model in models.items()}
    return drafters
