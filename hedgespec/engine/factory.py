"""Configuration -> running targets and drafters. torch and transformers are imported by the kinds that need them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from hedgespec.config import DrafterConfig, TargetConfig
from hedgespec.engine.drafter_engine import DrafterRunner
from hedgespec.engine.engine import Engine
from hedgespec.engine.local import LocalDrafter, LocalTarget, TargetInfo
from hedgespec.errors import ConfigError
from hedgespec.models.drafter_model import DrafterModel
from hedgespec.models.ngram.drafter import NgramDrafter
from hedgespec.protocols import FeatureTransport

if TYPE_CHECKING:
    from hedgespec.models.eagle3.drafter import Eagle3Drafter

TABULAR = "tabular:"


def build_target(config: TargetConfig, transport: FeatureTransport) -> LocalTarget:
    """Load a target and start its engine. `config.model` is a folder (`zoo` is resolved by the caller).

    Raises ModelFolderError, ConfigError.
    """
    from hedgespec.engine.graphs import decode_in_graphs
    from hedgespec.engine.target_engine import TargetRunner
    from hedgespec.models.causal_lm.folder import load_causal_lm
    from hedgespec.models.cpu.lean_network import accelerate

    _set_num_threads(config.num_threads)
    model = accelerate(load_causal_lm(_folder(config.model, "target"), config.device, "target"))
    if config.device == "cuda" and config.cuda_graphs:
        from hedgespec.models.graphs.static_passes import use_static_passes

        decode_in_graphs("target", partial(use_static_passes, model), config)
    runner = TargetRunner(model, transport, config.max_sessions, config.max_cached_tokens, config.prefix_cache_tokens)
    engine = Engine(runner, "target")
    engine.start()
    info = TargetInfo(model.vocab_size, model.max_positions, model.num_layers, model.feature_width, model.digest)
    return LocalTarget(engine, info, runner.usage)


def build_drafters(configs: Sequence[DrafterConfig], target: TargetConfig) -> dict[str, LocalDrafter]:
    """Load drafters and start one engine per drafter or group, in the configured order.

    `model` of each, and of the target whose vocabulary and embedding they share, is a folder. Raises ModelFolderError,
    ConfigError.
    """
    groups: dict[str, list[DrafterConfig]] = {}
    for config in configs:
        groups.setdefault(_group_of(config), []).append(config)
    drafters: dict[str, LocalDrafter] = {}
    for group, members in groups.items():
        models = build_drafter_models(members, target)
        engine = Engine(DrafterRunner(models), group)
        engine.start()
        drafters |= {drafter_id: LocalDrafter(engine, model) for drafter_id, model in models.items()}
    return {config.id: drafters[config.id] for config in configs}


def build_drafter_models(configs: Sequence[DrafterConfig], target: TargetConfig) -> dict[str, DrafterModel]:
    """The drafters of one process; its EAGLE-3 heads compute together where they are alike."""
    heads = [config for config in configs if config.kind == "eagle3"]
    models: dict[str, DrafterModel] = dict(_eagle3_heads(heads, target)) if heads else {}
    return models | {config.id: _drafter_model(config, target) for config in configs if config.kind != "eagle3"}


def _drafter_model(config: DrafterConfig, target: TargetConfig) -> DrafterModel:
    if config.kind == "ngram":
        return NgramDrafter(config.id, config.max_cached_tokens)
    if config.kind == "tabular":
        raise ConfigError(f"drafter {config.id!r}: tabular drafters run without an engine")
    _set_num_threads(config.num_threads)
    from hedgespec.models.causal_lm.drafter import load_causal_lm_drafter
    from hedgespec.models.cpu.lean_network import accelerate
    from hedgespec.models.folder import read_embedding

    vocab_size = len(read_embedding(_folder(target.model, "target")))
    folder = _folder(config.model, f"drafter {config.id}")
    limits = config.max_sessions, config.max_cached_tokens
    drafter = load_causal_lm_drafter(config.id, folder, config.device, vocab_size, *limits)
    accelerate(drafter.model)
    return drafter


def _eagle3_heads(configs: Sequence[DrafterConfig], target: TargetConfig) -> dict[str, Eagle3Drafter]:
    from hedgespec.engine.graphs import decode_in_graphs
    from hedgespec.models.eagle3.drafter import Eagle3Drafter
    from hedgespec.models.eagle3.loading import load_eagle3_drafters
    from hedgespec.models.folder import read_config, read_embedding

    _set_num_threads(max(config.num_threads for config in configs))
    target_folder = _folder(target.model, "target")
    hidden_size = int(read_config(target_folder).get("hidden_size", 0))
    located = [c.model_copy(update={"model": str(_folder(c.model, f"drafter {c.id}"))}) for c in configs]
    drafters = load_eagle3_drafters(located, read_embedding(target_folder), hidden_size)
    for config in configs:
        if config.device == "cuda" and config.cuda_graphs and drafters[config.id].batched_by == config.id:
            bank = [drafter for drafter in drafters.values() if drafter.batched_by == config.id]
            decode_in_graphs(f"drafter {config.id}", partial(Eagle3Drafter.use_static_drafts, bank), config)
    return drafters


def _group_of(config: DrafterConfig) -> str:
    return f"group {config.group}" if config.group is not None else config.id


def _folder(model: str | None, role: str) -> Path:
    if not model or model == "zoo" or model.startswith(TABULAR):
        raise ConfigError(f"{role}: {model!r} must be resolved to a model folder before it is built.")
    return Path(model).expanduser()


def _set_num_threads(num_threads: int) -> None:
    import torch

    torch.set_num_threads(num_threads)
