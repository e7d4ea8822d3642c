"""Opens both doors for EAGLE-3 heads that are served: fast passes, and CUDA graphs for their drafts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from hedgespec.config import DrafterConfig
from hedgespec.engine.graphs import decode_in_graphs
from hedgespec.models.eagle3.head import Eagle3Head
from hedgespec.models.eagle3.head_bank import HeadBank
from hedgespec.models.lean.lean_heads import lean_bank, rehearse


def served_bank(heads: Sequence[Eagle3Head], config: DrafterConfig) -> HeadBank:
    """Make a bank for serving. config: of its first head; see `head_drafters.MakeBank`"""
    bank = lean_bank(heads, in_int8=config.is_in_int8)
    rehearse(bank)
    if config.device == "cuda" and config.cuda_graphs:
        from hedgespec.models.graphs.static_drafts import use_static_drafts

        decode_in_graphs(f"drafter {config.id}", partial(use_static_drafts, bank), config)
    return bank
