"""Make an untrained EAGLE-3 head for a target: its shape and its initial weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig

from hedgespec.models.eagle3.config import Eagle3Config
from hedgespec.models.eagle3.head import Eagle3Head
from hedgespec.models.folder import read_embedding, read_output_matrix
from hedgespec.models.rotary import RopeConfig
from hedgespec.training.teacher import Teacher
from hedgespec.training.text import Windows


def draft_vocabulary(data: Windows, size: int, vocab_size: int) -> torch.Tensor:
    """Return the `size` most frequent token ids of the data, ascending, [size]; ties go to the smaller id."""
    counts = np.bincount(data.reshape(-1), minlength=vocab_size)
    return torch.from_numpy(np.sort(np.argsort(-counts, kind="stable")[: min(size, vocab_size)]))


def fresh_head(teacher: Teacher, draft_ids: torch.Tensor, intermediate_size: int | None, seed: int) -> Eagle3Head:
    """Make a head of the target's width; its embedding and output rows start as copies of the target's.

    draft_ids: [draft_vocab], token ids that the head can draft. intermediate_size: None takes the target's.
    """
    return _fresh(teacher.config, teacher.embedding, teacher.output_embedding, draft_ids, intermediate_size, seed)


def fresh_head_for(target: Path, draft_ids: torch.Tensor, intermediate_size: int | None, seed: int) -> Eagle3Head:
    """Make a head for the target in a folder whose output rows stay the target's, as a compact head needs it."""
    config = AutoConfig.from_pretrained(target)
    head = _fresh(config, read_embedding(target), read_output_matrix(target), draft_ids, intermediate_size, seed)
    head.lm_head.requires_grad_(False)
    return head


def _fresh(
    config: Any,
    embedding: torch.Tensor,
    output: torch.Tensor,
    draft_ids: torch.Tensor,
    intermediate_size: int | None,
    seed: int,
) -> Eagle3Head:
    torch.manual_seed(seed)
    head = Eagle3Head(
        Eagle3Config(
            hidden_size=config.hidden_size,
            target_hidden_size=config.hidden_size,
            intermediate_size=intermediate_size or config.intermediate_size,
            num_attention_heads=config.num_attention_heads,
            num_kv_heads=config.num_key_value_heads,
            head_dim=config.hidden_size // config.num_attention_heads,
            vocab_size=config.vocab_size,
            draft_vocab_size=len(draft_ids),
            max_positions=config.max_position_embeddings,
            rms_norm_eps=config.rms_norm_eps,
            rope=RopeConfig(),
        )
    ).to(embedding.device)
    head.draft_to_target = draft_ids.to(embedding.device)
    with torch.no_grad():
        head.embed_tokens.weight.copy_(embedding)
        head.lm_head.weight.copy_(output[head.draft_to_target])
    return head
