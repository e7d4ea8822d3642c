"""Heads of one process, loaded for one target: those that are alike share a bank and compute together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from hedgespec.config import Device, DrafterConfig
from hedgespec.errors import ModelFolderError
from hedgespec.models.eagle3.bank import HeadBank, can_share
from hedgespec.models.eagle3.drafter import Eagle3Drafter
from hedgespec.models.eagle3.head import Eagle3Head, load_eagle3
from hedgespec.models.folder import check_model_folder, weights_digest


def load_eagle3_drafters(
    configs: Sequence[DrafterConfig], embed_tokens: Tensor, target_hidden_size: int
) -> dict[str, Eagle3Drafter]:
    """Load published heads for a target, of whose embedding [vocab, hidden] they make use.

    configs: with `model` a folder. Raises ModelFolderError when one is broken or made for a target of another shape.
    """
    first = configs[0].device  # of all: they share a process
    table = embed_tokens.to(first, _dtype(first))  # once, and not once per head
    heads = {config.id: _load(config, table, target_hidden_size) for config in configs}
    drafters: dict[str, Eagle3Drafter] = {}
    for alike in _alike([(config, heads[config.id]) for config in configs]):
        bank = HeadBank([head for _, head in alike], in_int8=alike[0][0].is_in_int8)
        own = [_drafter(config, bank, place) for place, (config, _) in enumerate(alike)]
        Eagle3Drafter.join(own)
        own[0].rehearse()
        drafters |= {drafter.drafter_id: drafter for drafter in own}
    return drafters


def _load(config: DrafterConfig, embed_tokens: Tensor, target_hidden_size: int) -> Eagle3Head:
    role, folder = f"drafter {config.id}", _folder(config)
    check_model_folder(folder, role)
    try:
        head = load_eagle3(folder, embed_tokens, dtype=_dtype(config.device), device=config.device)
    except ModelFolderError as error:
        raise ModelFolderError(f"{role}: {error}") from error
    if head.config.vocab_size != len(embed_tokens):
        raise ModelFolderError(f"{role} incompatible: vocab {head.config.vocab_size} ≠ {len(embed_tokens)}")
    own_size = head.config.target_hidden_size
    if own_size != target_hidden_size:
        raise ModelFolderError(
            f"{role} incompatible: made for hidden size {own_size}, the target's is {target_hidden_size}"
        )
    return head


def _alike(heads: Sequence[tuple[DrafterConfig, Eagle3Head]]) -> list[list[tuple[DrafterConfig, Eagle3Head]]]:
    groups: list[list[tuple[DrafterConfig, Eagle3Head]]] = []
    for config, head in heads:
        for group in groups:
            if config.is_in_int8 == group[0][0].is_in_int8 and can_share(group[0][1], head):
                group.append((config, head))
                break
        else:
            groups.append([(config, head)])
    return groups


def _drafter(config: DrafterConfig, bank: HeadBank, place: int) -> Eagle3Drafter:
    limits = config.max_sessions, config.max_cached_tokens
    return Eagle3Drafter(config.id, bank, weights_digest(_folder(config)), *limits, place)


def _dtype(device: Device) -> torch.dtype:
    return torch.float32 if device == "cpu" else torch.bfloat16


def _folder(config: DrafterConfig) -> Path:
    return Path(config.model or "").expanduser()
