"""Drafters made of EAGLE-3 heads. Heads of one process that are alike share a bank and compute together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from hedgespec.config import Device, DrafterConfig
from hedgespec.errors import ModelFolderError
from hedgespec.models.drafting.draft_network import Owner
from hedgespec.models.drafting.feature_buffer import FeatureBuffer
from hedgespec.models.drafting.network_drafter import NetworkDrafter
from hedgespec.models.drafting.vocabulary import DraftVocabulary
from hedgespec.models.eagle3.head import Eagle3Head, load_eagle3
from hedgespec.models.eagle3.head_bank import HeadBank, can_share
from hedgespec.models.eagle3.head_branches import HeadBranches
from hedgespec.models.eagle3.head_network import HeadNetwork
from hedgespec.models.eagle3.head_session import HeadSession
from hedgespec.models.folder import check_model_folder, weights_digest

HeadDrafter = NetworkDrafter[HeadSession, HeadBranches]

MakeBank = Callable[[Sequence[Eagle3Head], DrafterConfig], HeadBank]
"""Makes a bank of heads, with the first one's configuration. `engine.served_heads.served_bank` opens the doors."""


def head_drafter(
    drafter_id: str,
    bank: HeadBank,
    digest: str,
    max_sessions: int,
    max_cached_tokens: int,
    head_index: int = 0,
    make_network: Callable[[HeadBank], HeadNetwork] = HeadNetwork,
) -> HeadDrafter:
    """Make a drafter of one head of a bank; `NetworkDrafter.join` lets all of a bank compute together."""
    vocabulary = DraftVocabulary(bank.config.vocab_size, bank.draft_to_target[head_index])
    features = FeatureBuffer(3 * bank.config.target_hidden_size, max_cached_tokens)
    owner = Owner(drafter_id, vocabulary, head_index, features)
    return NetworkDrafter(owner, make_network(bank), digest, max_sessions, max_cached_tokens)


def load_eagle3_drafters(
    configs: Sequence[DrafterConfig],
    embed_tokens: Tensor,
    target_hidden_size: int,
    make_bank: MakeBank = lambda heads, _: HeadBank(heads),
    target_output: Callable[[], Tensor] | None = None,
) -> dict[str, HeadDrafter]:
    """Load published heads for a target, whose embedding [vocab, hidden] they use.

    configs: with `model` a folder. target_output: see `load_eagle3`.

    Raises ModelFolderError when one is broken or made for a target of another shape.
    """
    first = configs[0].device  # of all: they share a process
    table = embed_tokens.to(first, _dtype(first))  # once, and not once per head
    heads = [(config, _load(config, table, target_hidden_size, target_output)) for config in configs]
    drafters: dict[str, HeadDrafter] = {}
    for alike in _alike(heads):
        bank = make_bank([head for _, head in alike], alike[0][0])
        own = [_drafter(config, bank, index) for index, (config, _) in enumerate(alike)]
        NetworkDrafter.join(own)
        drafters |= {drafter.drafter_id: drafter for drafter in own}
    return drafters


def _load(
    config: DrafterConfig, embed_tokens: Tensor, target_hidden_size: int, target_output: Callable[[], Tensor] | None
) -> Eagle3Head:
    role, folder = f"drafter {config.id}", _folder(config)
    check_model_folder(folder, role)
    try:
        head = load_eagle3(
            folder, embed_tokens, dtype=_dtype(config.device), device=config.device, target_output=target_output
        )
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
    """Group the heads that can share a bank. Weights are rounded for a whole bank or not at all."""
    groups: list[list[tuple[DrafterConfig, Eagle3Head]]] = []
    for config, head in heads:
        for group in groups:
            if config.is_in_int8 == group[0][0].is_in_int8 and can_share(group[0][1], head):
                group.append((config, head))
                break
        else:
            groups.append([(config, head)])
    return groups


def _drafter(config: DrafterConfig, bank: HeadBank, head_index: int) -> HeadDrafter:
    limits = config.max_sessions, config.max_cached_tokens
    return head_drafter(config.id, bank, weights_digest(_folder(config)), *limits, head_index)


def _dtype(device: Device) -> torch.dtype:
    return torch.float32 if device == "cpu" else torch.bfloat16


def _folder(config: DrafterConfig) -> Path:
    return Path(config.model or "").expanduser()
