"""A compact head folder stores matrices in int8 and leaves out what is the target's, so that many heads fit in a package.

Beside the published layout: `NAME` of a matrix may be int8 with `NAME_scale` [rows, 1], and `lm_head.weight` may be missing:
its rows are then those of the target's output matrix at the ids that the head drafts. Everything is widened when it is read.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from hedgespec.errors import ModelFolderError

SCALE = "_scale"
OUTPUT = "lm_head.weight"


def rounded(name: str, weight: Tensor) -> dict[str, Tensor]:
    """Return what a compact folder stores for a tensor of that name: matrices in int8 with one scale per row."""
    if weight.dim() != 2:
        return {name: weight.float()}
    scale = weight.float().abs().amax(dim=1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny) / 127
    return {name: (weight / scale).round().to(torch.int8), name + SCALE: scale}


def widened(folder: Path, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a folder in float32 where they are int8. Raises ModelFolderError for scales that do not fit."""
    wide: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name.endswith(SCALE) and name.removesuffix(SCALE) in tensors:
            continue
        if tensor.dtype == torch.int8:
            scale = tensors.get(name + SCALE)
            if scale is None or scale.shape != (len(tensor), 1):
                found = "missing" if scale is None else f"of shape {list(scale.shape)}"
                raise ModelFolderError(f"{folder}: {name + SCALE} is {found}, expected [{len(tensor)}, 1].")
            tensor = tensor.float() * scale.float()
        wide[name] = tensor
    return wide


def output_rows(folder: Path, draft_to_target: Tensor, target_output: Callable[[], Tensor] | None) -> Tensor:
    """Return the target's output rows that a head drafts with, [draft_vocab, hidden]. Raises ModelFolderError."""
    if target_output is None:
        raise ModelFolderError(f"{folder} has no {OUTPUT} and no target output matrix was given.")
    output = target_output()
    if int(draft_to_target.max()) >= len(output):
        raise ModelFolderError(f"{folder} drafts id {int(draft_to_target.max())}; the target has {len(output)} tokens.")
    return output[draft_to_target]
