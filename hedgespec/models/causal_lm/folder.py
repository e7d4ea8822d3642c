"""Load a causal LM folder for packed passes, and refuse whatever cannot be served now rather than in a request."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.utils import logging as transformers_logging

from hedgespec.config import Device
from hedgespec.errors import ModelFolderError
from hedgespec.models.causal_lm.block import Block
from hedgespec.models.causal_lm.network import attention_implementation
from hedgespec.models.causal_lm.packed import PackedCausalLM
from hedgespec.models.folder import check_model_folder, weights_digest
from hedgespec.models.memory.kv_memory import KvMemory

UNPACKABLE_ROPES = frozenset({"dynamic", "longrope"})
"""Rotary embeddings that depend on the longest position of a pass: packed sessions would change each other's logits."""


def load_causal_lm(folder: Path, device: Device, role: str) -> PackedCausalLM:
    """Load a safetensors folder: float32 on CPU, bfloat16 on CUDA. Nothing is downloaded, no code of the folder runs.

    role: whose folder it is, for messages (`target`, `drafter small`). Raises ModelFolderError.
    """
    check_model_folder(folder, role)
    transformers_logging.disable_progress_bar()
    try:
        model, info = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=torch.float32 if device == "cpu" else torch.bfloat16,
            attn_implementation=attention_implementation(),
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
        )
    except Exception as error:  # the library raises a dozen types for broken folders
        raise ModelFolderError(f"{role}: cannot load {folder}: {type(error).__name__}: {error}") from error
    _check_tensors(model, info, folder, role)
    _check_config(model, folder, role)
    target = torch.device(device)
    runner = PackedCausalLM(model.to(target).eval().requires_grad_(False), weights_digest(folder), target)
    _warm_up(runner, folder, role)
    return runner


def _check_tensors(model: PreTrainedModel, info: dict[str, Any], folder: Path, role: str) -> None:
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        names = sorted(str(name) for name in info.get(kind, ()))
        if names:
            raise ModelFolderError(f"{role}: {kind.replace('_keys', '')} tensors in {folder}: {names[:5]}")
    for name, tensor in model.named_parameters():
        if not bool(torch.isfinite(tensor).all()):
            raise ModelFolderError(f"{role}: non-finite weights in {name} of {folder}")


def _check_config(model: PreTrainedModel, folder: Path, role: str) -> None:
    config = model.config.get_text_config()
    if not getattr(model, "_supports_attention_backend", False):
        raise ModelFolderError(f"{role}: {type(model).__name__} in {folder} does not take a custom attention function")
    if not isinstance(getattr(config, "max_position_embeddings", None), int) or config.max_position_embeddings < 2:
        raise ModelFolderError(f"{role}: config.json of {folder} has no usable max_position_embeddings")
    rope = getattr(config, "rope_parameters", None) or {}
    kinds = {str(rope.get("rope_type"))} | {str(r.get("rope_type")) for r in rope.values() if isinstance(r, dict)}
    if kinds & UNPACKABLE_ROPES:
        raise ModelFolderError(f"{role}: rope type {sorted(kinds & UNPACKABLE_ROPES)} of {folder} is not supported")


def _warm_up(runner: PackedCausalLM, folder: Path, role: str) -> None:
    """Run one pass over two tokens: a variant that packed attention cannot serve fails here, not in a request."""
    slot = KvMemory(2).open(2)
    try:
        (output,) = runner.forward([Block(slot, np.zeros(2, np.int32), wants_features=True)])
    except ModelFolderError as error:
        raise ModelFolderError(f"{role}: cannot serve {folder}: {error}") from error
    except Exception as error:  # whatever the model's own code raises
        raise ModelFolderError(f"{role}: cannot serve {folder}: {type(error).__name__}: {error}") from error
    if not slot.layers or not bool(torch.isfinite(output.logits).all()):
        raise ModelFolderError(f"{role}: {folder} gives no finite logits for a two-token input")
