"""The EAGLE-3 heads that are shipped for SmolLM2-135M-Instruct: `model: smollm2` of a drafter names the one of its id.

`HEDGESPEC_SMOLLM2_HEADS` points to another folder of heads, e.g. one that a training has just written.
"""

from __future__ import annotations

import os
from pathlib import Path

from hedgespec.zoo.smollm2 import DOMAINS, GENERIC

HEADS: tuple[str, ...] = (GENERIC, *DOMAINS)

HEADS_DIR = Path(os.environ.get("HEDGESPEC_SMOLLM2_HEADS") or Path(__file__).parent / "weights")


def head_folders() -> dict[str, Path]:
    """Return the checkpoint folder of every head that exists, by drafter id; `generic` comes first."""
    return {name: HEADS_DIR / name for name in HEADS if (HEADS_DIR / name / "config.json").is_file()}
