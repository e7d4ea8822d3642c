"""The zoo: a small target and its domain-expert drafters, shipped with the package.

Importing this package needs neither torch nor transformers. `HEDGESPEC_ZOO` points to another weights folder of the
same layout, e.g. one that `hedgespec zoo build` has just written.
"""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path

DOMAINS: tuple[str, ...] = ("python", "c", "prose", "sql", "arithmetic", "json")
DRAFTERS: tuple[str, ...] = ("generic", *DOMAINS)

ZOO_DIR = Path(os.environ.get("HEDGESPEC_ZOO") or Path(__file__).parent / "weights")
PROMPTS_FILE = Path(__file__).parent / "prompts.json"


def target_folder() -> Path:
    """Return the target's checkpoint folder."""
    return ZOO_DIR / "target"


def drafter_folders() -> dict[str, Path]:
    """Return the EAGLE-3 checkpoint folder of every drafter that exists, by drafter id."""
    return {name: ZOO_DIR / name for name in DRAFTERS if (ZOO_DIR / name / "config.json").is_file()}


def held_out_prompts(domain: str, split: str = "test") -> list[str]:
    """Return prompts cut from documents that neither target nor drafters were trained on.

    split: "test" or "validation". Raises KeyError for another split or domain.
    """
    return list(_prompts()[split][domain])


@cache
def _prompts() -> dict[str, dict[str, list[str]]]:
    path = ZOO_DIR / "prompts.json" if (ZOO_DIR / "prompts.json").is_file() else PROMPTS_FILE
    prompts: dict[str, dict[str, list[str]]] = json.loads(path.read_text(encoding="utf-8"))
    return prompts
