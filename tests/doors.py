"""Greedy speculation by a target and a causal LM drafter of the same weights, with both doors open or shut.

`python -m tests.doors FOLDER...` shuts both doors for good, runs every folder and prints the results as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from hedgespec.models.causal_lm.packed import PackedCausalLM

DOORS = ("hedgespec.models.lean", "hedgespec.models.graphs")
PROMPT = np.array([3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5], np.int32)
NUM_TOKENS, NUM_DRAFT_TOKENS = 30, 5


class ShutDoors(MetaPathFinder):
    """An import hook that refuses to import the modules behind a door."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.startswith(DOORS):
            raise ImportError(f"{fullname} is shut")
        return None


@dataclass
class Speculation:
    """The emitted ids, cut to NUM_TOKENS, and every round's draft."""

    ids: list[int]
    drafts: list[list[int]]


async def speculate(target: PackedCausalLM, drafter: PackedCausalLM) -> Speculation:
    """Decode PROMPT greedily through the target's engine, each round with a draft of the drafter."""
    from hedgespec.engine.engine import Engine
    from hedgespec.engine.local import LocalFeatureTransport, LocalTarget
    from hedgespec.engine.target_engine import TargetRunner
    from hedgespec.models.causal_lm.lm_drafter import lm_drafter
    from hedgespec.types import DraftRequest
    from tests.engine_sessions import make_spec, observation_of

    runner = TargetRunner(target, LocalFeatureTransport(), max_sessions=1, max_cached_tokens=256)
    engine = Engine(runner, "target")
    engine.start()
    local, small = LocalTarget(engine, runner.usage), lm_drafter("small", drafter, 1, 256)
    spec = make_spec(PROMPT, max_draft_tokens=NUM_DRAFT_TOKENS)
    await local.open(spec)
    small.open(spec)
    ids: list[int] = []
    drafts: list[list[int]] = []
    try:
        while len(ids) < NUM_TOKENS:
            (tree,) = small.draft([DraftRequest("a", len(drafts), NUM_DRAFT_TOKENS)])
            verdict = await local.verify("a", len(drafts), tree)
            small.observe("a", observation_of(verdict, len(ids), wants_scores=False))
            drafts.append(tree.token_ids.tolist())
            ids += verdict.token_ids.tolist()
    finally:
        await asyncio.to_thread(local.stop)
    return Speculation(ids[:NUM_TOKENS], drafts)


def main(folders: Sequence[str]) -> None:
    sys.meta_path.insert(0, ShutDoors())
    from hedgespec.models.causal_lm.folder import load_causal_lm

    found = {}
    for folder in folders:
        target, drafter = (load_causal_lm(Path(folder), "cpu", role) for role in ("target", "drafter small"))
        found[folder] = asdict(asyncio.run(speculate(target, drafter)))
    behind = [name for name in sys.modules if name.startswith(DOORS)]
    print(json.dumps({"found": found, "behind doors": behind}))


if __name__ == "__main__":
    main(sys.argv[1:])
