"""Drafters with a network draft and score the same with both doors shut, on the plain path alone, as with them open.

Shut: a process in which `hedgespec.models.lean` and `hedgespec.models.graphs` cannot be imported.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch

from hedgespec.config import DrafterConfig
from hedgespec.models.drafter_model import DrafterModel
from hedgespec.models.eagle3.head_bank import HeadBank
from hedgespec.models.eagle3.head_drafters import MakeBank, load_eagle3_drafters
from tests.drafter_play import CASES, Play, Results, assert_same
from tests.model_folders import HIDDEN_SIZE, VOCAB_SIZE, make_eagle3, make_llama

KINDS = ("eagle3 alone", "eagle3 in one bank", "causal_lm")
NUM_HEADS = 3
SHUT = """
import pickle, sys
from tests.doors import DOORS, ShutDoors

sys.meta_path.insert(0, ShutDoors())
from tests.unit.test_doors_drafters import played

folder, kind, result = sys.argv[1:]
with open(result, "wb") as file:
    pickle.dump(played(folder, kind), file)
assert not [name for name in sys.modules if name.startswith(DOORS)]
"""


def plain_bank(heads: list, _: DrafterConfig) -> HeadBank:
    return HeadBank(heads)


def load_heads(folder: Path, num_heads: int, make_bank: MakeBank) -> Mapping[str, DrafterModel]:
    names = [f"h{seed}" for seed in range(num_heads)]
    configs = [DrafterConfig(id=n, kind="eagle3", model=str(folder / n), quantization="none") for n in names]
    embedding = torch.randn((VOCAB_SIZE, HIDDEN_SIZE), generator=torch.Generator().manual_seed(1))
    return load_eagle3_drafters(configs, embedding, HIDDEN_SIZE, make_bank)


def load_plain(folder: Path, kind: str) -> Mapping[str, DrafterModel]:
    if kind != "causal_lm":
        return load_heads(folder, 1 if kind == "eagle3 alone" else NUM_HEADS, plain_bank)
    from hedgespec.models.causal_lm.lm_drafter import load_causal_lm_drafter

    return {"small": load_causal_lm_drafter("small", folder / "small", "cpu", VOCAB_SIZE, 8, 8192)}


def load_open(folder: Path, kind: str, *, has_graphs: bool) -> Mapping[str, DrafterModel]:
    if kind == "causal_lm":
        return {"small": load_open_lm(folder / "small", has_graphs=has_graphs)}
    from hedgespec.models.graphs.static_drafts import use_static_drafts
    from hedgespec.models.lean.lean_heads import LeanPasses, lean_bank

    banks: list[HeadBank] = []

    def open_bank(heads: list, _: DrafterConfig) -> HeadBank:
        banks.append(lean_bank(heads))
        if has_graphs:
            use_static_drafts(banks[-1], 4, 96)
        return banks[-1]

    drafters = load_heads(folder, 1 if kind == "eagle3 alone" else NUM_HEADS, open_bank)
    (bank,) = banks
    assert isinstance(bank.passes, LeanPasses)
    assert len(bank.shortcuts) == 1 + has_graphs
    return drafters


def load_open_lm(folder: Path, *, has_graphs: bool) -> DrafterModel:
    from hedgespec.models.causal_lm.folder import load_causal_lm
    from hedgespec.models.causal_lm.lm_drafter import lm_drafter
    from hedgespec.models.graphs.static_passes import use_static_passes
    from hedgespec.models.lean.lean_network import LeanNetwork, accelerate

    model = accelerate(load_causal_lm(folder, "cpu", "drafter small"))
    assert isinstance(model.network, LeanNetwork)
    if has_graphs:
        use_static_passes(model, 4, 96)
    return lm_drafter("small", model, 8, 8192)


def played(folder: str, kind: str) -> dict[str, Results]:
    """Return the results of every kind on the plain path."""
    return {case: Play(load_plain(Path(folder), kind), case).run() for case in CASES}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    for seed in range(NUM_HEADS):
        make_eagle3(root / f"h{seed}", seed=seed)
    make_llama(root / "small", num_hidden_layers=2)
    return root


@pytest.fixture(scope="module")
def shut(folder: Path) -> Callable[[str], dict[str, Results]]:
    """Results of a kind in a process whose doors are shut."""
    done: dict[str, dict[str, Results]] = {}

    def results(kind: str) -> dict[str, Results]:
        if kind not in done:
            file = folder / f"{kind}.pickle"
            arguments = [sys.executable, "-c", SHUT, str(folder), kind, str(file)]
            process = subprocess.run(arguments, capture_output=True, text=True, timeout=170, check=False)
            assert process.returncode == 0, process.stderr
            done[kind] = pickle.loads(file.read_bytes())
        return done[kind]

    return results


@pytest.mark.timeout(180)
@pytest.mark.parametrize("has_graphs", [False, True], ids=["cpu door", "both doors"])
@pytest.mark.parametrize("kind", KINDS)
def test_shut_doors_change_nothing(
    folder: Path, shut: Callable[[str], dict[str, Results]], kind: str, has_graphs: bool
) -> None:
    for case, expected in shut(kind).items():
        assert_same(Play(load_open(folder, kind, has_graphs=has_graphs), case).run(), expected)


def test_the_comparison_notices_other_weights(folder: Path) -> None:
    heads = load_heads(folder, 2, plain_bank)
    one, other = (Play({name: heads[name]}, "greedy", together=False).run() for name in heads)
    with pytest.raises(AssertionError, match="Arrays are not equal"):
        assert_same(one, other)


def test_a_shut_door_cannot_be_imported() -> None:
    program = SHUT.replace("from tests.unit", "import hedgespec.models.lean.scripting\nfrom tests.unit")
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert "hedgespec.models.lean is shut" in process.stderr
