"""A replica's process imports no more than its model needs: a target needs transformers, a head torch only, the n-gram
drafter neither."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.model_folders import make_eagle3, make_llama

pytestmark = pytest.mark.timeout(180)  # importing torch takes a while when other tests keep the disk and cores busy

USE = """
import asyncio, json, sys
import numpy as np
from hedgespec.config import DrafterConfig, TargetConfig
from hedgespec.engine.factory import build_drafters
from hedgespec.types import DraftRequest, FeatureBlock, Observation, SamplingParams, SessionSpec

async def main(config, target):
    drafter = build_drafters([config], target)[config.id]
    prompt = np.array([5, 6, 5, 6, 5], np.int32)
    await drafter.open(SessionSpec("a", prompt, prompt[:0], SamplingParams(temperature=1.0), 0, 4))
    drafter.push(FeatureBlock("a", 0, np.zeros((4, 96), np.float32)))
    tree = await drafter.draft(DraftRequest("a", 0, 3))
    assert tree.num_nodes == 3, tree
    scores = await drafter.observe("a", 0, Observation(0, np.array([6], np.int32), np.ones(1, np.float32)))
    assert scores.acceptance.shape[0] == 1
    await drafter.close("a")
    drafter.stop()

config, target = (json.loads(a) for a in sys.argv[1:])
asyncio.run(main(DrafterConfig(**config), TargetConfig(**target)))
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def modules_after_use(config: dict[str, str], target: str) -> set[str]:
    """Top-level modules of a fresh process that has built, used and closed one drafter."""
    arguments = [json.dumps(config), json.dumps({"model": target})]
    done = subprocess.run(
        [sys.executable, "-c", USE, *arguments], capture_output=True, text=True, timeout=170, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_the_ngram_process_imports_neither_torch_nor_transformers() -> None:
    modules = modules_after_use({"id": "ngram", "kind": "ngram"}, "unused")
    assert not modules & {"torch", "transformers", "safetensors"}


def test_a_heads_process_imports_torch_but_not_transformers(tmp_path: Path) -> None:
    target, head = make_llama(tmp_path / "target"), make_eagle3(tmp_path / "head")
    modules = modules_after_use({"id": "head", "kind": "eagle3", "model": str(head)}, str(target))
    assert "torch" in modules
    assert "transformers" not in modules


def test_a_configuration_is_checked_without_torch() -> None:
    check = """
import sys
from hedgespec.catalogue import DRAFTER_KINDS
from hedgespec.config import DrafterConfig
for kind in DRAFTER_KINDS.names():
    DrafterConfig(id="d", kind=kind, model=None if kind == "ngram" else "tabular:1")
assert not {"torch", "transformers"} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("model", ["zoo", "smollm2", "tabular:1"])
def test_a_model_that_was_not_resolved_to_a_folder_is_refused(model: str) -> None:
    from hedgespec.config import DrafterConfig, TargetConfig
    from hedgespec.engine.factory import build_drafters
    from hedgespec.errors import ConfigError

    with pytest.raises(ConfigError, match="must be resolved"):
        build_drafters([DrafterConfig(id="head", kind="eagle3", model=model)], TargetConfig(model=model))
