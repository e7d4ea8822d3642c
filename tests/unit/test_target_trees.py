"""The target and trees: masks, positions, kept rows, penalties and memory, for full and sliding-window attention.

transformers is the oracle: its own eager pass over every root-to-leaf path, and its own `generate`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from hedgespec.config import TargetConfig
from hedgespec.engine.engine import Engine
from hedgespec.engine.factory import build_target
from hedgespec.engine.local import LocalFeatureTransport, LocalTarget
from hedgespec.engine.target_engine import TargetRunner
from hedgespec.errors import InvalidDraft, ReplicaLost
from hedgespec.models.causal_lm.block import Block, BlockOutput
from hedgespec.models.causal_lm.folder import load_causal_lm
from hedgespec.models.causal_lm.packed import PackedCausalLM
from hedgespec.models.lean.lean_network import accelerate
from hedgespec.models.memory.kv_memory import KvMemory
from hedgespec.types import EMPTY_DRAFT, DraftForm, DraftTree, SamplingParams
from tests.engine_sessions import Draft, decode, make_spec, random_ids
from tests.model_folders import MAX_POSITIONS, VOCAB_SIZE, make_llama, make_mistral, make_qwen3

MAKERS = {"llama": make_llama, "qwen3": make_qwen3, "mistral": make_mistral}
TREES = DraftForm("tree", 4)
NUM_TOKENS = 48


@pytest.fixture(scope="module", params=sorted(MAKERS))
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return MAKERS[request.param](tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def target(folder: Path) -> Iterator[LocalTarget]:
    local = build_target(
        TargetConfig(model=str(folder), max_sessions=4, max_cached_tokens=4096), LocalFeatureTransport()
    )
    yield local
    local.stop()


@pytest.fixture(scope="module")
def reference(folder: Path) -> torch.nn.Module:
    return AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32)


def random_parents(rng: np.random.Generator, num_nodes: int) -> np.ndarray:
    return np.array([int(rng.integers(-1, node)) for node in range(num_nodes)], np.int32)


def bushy_around(known: list[int], num_prompt: int, rng: np.random.Generator) -> Draft:
    """Trees with the right continuation somewhere among wrong branches, some of which go on."""

    def draft(ids: list[int]) -> DraftTree:
        done = len(ids) - num_prompt
        tokens: list[int] = []
        parents: list[int] = []
        spine = -1
        for token in known[done : done + int(rng.integers(0, 6))]:
            for _ in range(int(rng.integers(0, 3))):
                parents.append(int(rng.integers(-1, len(tokens))))
                tokens.append(int(rng.integers(VOCAB_SIZE)))
            tokens.append(token)
            parents.append(spine)
            spine = len(tokens) - 1
        return DraftTree(np.array(tokens, np.int32), np.array(parents, np.int32))

    return draft


@torch.inference_mode()
def test_every_path_of_a_random_tree_has_the_logits_of_a_plain_pass(folder: Path, reference: torch.nn.Module) -> None:
    """Several trees packed into one pass, after texts shorter and longer than the window of 8."""
    model, memory, rng = accelerate(load_causal_lm(folder, "cpu", "target")), KvMemory(400), np.random.default_rng(3)
    texts = [random_ids(n, seed=n) for n in (3, 8, 30)]
    slots = [memory.open(len(text) + 25) for text in texts]
    model.forward([Block(slot, text) for slot, text in zip(slots, texts, strict=True)])
    trees = [(random_ids(n, seed=100 + n), random_parents(rng, n)) for n in (9, 17, 25)]
    blocks = [Block(slot, tokens, parent) for slot, (tokens, parent) in zip(slots, trees, strict=True)]
    for output, text, (tokens, parent) in zip(model.forward(blocks), texts, trees, strict=True):
        for leaf in set(range(len(tokens))) - set(parent.tolist()):
            path = [leaf]
            while parent[path[0]] >= 0:
                path.insert(0, int(parent[path[0]]))
            ids = torch.tensor(np.concatenate([text, tokens[path]])[None].astype(np.int64))
            plain = reference(ids).logits[0, len(text) :]
            torch.testing.assert_close(output.logits[path], plain, atol=1e-4, rtol=1e-4)


async def test_greedy_text_of_many_rounds_with_random_trees_equals_generate(
    target: LocalTarget, reference: torch.nn.Module
) -> None:
    """A wrong mask, position or kept row would show in the rounds after it."""
    for seed in range(4):
        prompt = random_ids(5 + 6 * seed, seed=40 + seed)
        ids = torch.tensor(prompt[None].astype(np.int64))
        with torch.inference_mode():
            generated = reference.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=NUM_TOKENS + 8,
                do_sample=False,
                pad_token_id=0,
                eos_token_id=None,
            )
        known = generated[0, len(prompt) :].tolist()
        spec = make_spec(prompt, draft_form=TREES)
        draft = bushy_around(known, len(prompt), np.random.default_rng(seed))
        assert await decode(target, spec, NUM_TOKENS, draft) == known[:NUM_TOKENS]


@pytest.mark.parametrize(
    "sampling",
    [
        SamplingParams(temperature=0.0, frequency_penalty=0.6, repetition_penalty=1.3, logit_bias=((3, 2.0),)),
        SamplingParams(seed=4, presence_penalty=0.9, frequency_penalty=0.5, top_p=0.9, logit_bias=((5, 3.0),)),
    ],
    ids=["greedy", "coupled"],
)
async def test_penalties_count_the_ancestors_of_each_row_of_a_tree(
    target: LocalTarget, sampling: SamplingParams
) -> None:
    """The text with random trees is the text without drafts; counting siblings, or no ancestors, would change it."""
    prompt = random_ids(9, seed=60)
    plain = await decode(target, make_spec(prompt, sampling=sampling), NUM_TOKENS + 8)
    draft = bushy_around(plain, len(prompt), np.random.default_rng(60))
    spec = make_spec(prompt, sampling=sampling, draft_form=TREES)
    assert await decode(target, spec, NUM_TOKENS, draft) == plain[:NUM_TOKENS]


async def test_a_bushy_tree_fits_where_its_depth_does(target: LocalTarget) -> None:
    """Two positions are left: thirty nodes of depth 2 are verified, three tokens in a row are not."""
    spec = make_spec(random_ids(MAX_POSITIONS - 2), draft_form=TREES)
    await target.open(spec)
    with pytest.raises(InvalidDraft, match="room for 2"):
        await target.verify("a", 0, DraftTree.chain(np.zeros(3, np.int32)))
    bushy = DraftTree(np.arange(30, dtype=np.int32), np.array([-1] * 10 + [*range(10)] * 2, np.int32))
    verdict = await target.verify("a", 1, bushy)
    await target.close("a")
    await target.open(spec)
    alone = (await target.verify("a", 0, EMPTY_DRAFT)).token_ids
    await target.close("a")
    assert verdict.token_ids[0] == alone[0]


async def test_a_tree_for_which_there_is_no_memory_costs_the_draft_and_not_the_answer(folder: Path) -> None:
    """Merged chains may need more rows than a session of chains has reserved; the empty draft always fits."""
    config = TargetConfig(model=str(folder), max_cached_tokens=64)
    full = build_target(config, LocalFeatureTransport())
    spec = make_spec(random_ids(54), sampling=SamplingParams(temperature=0.0, max_tokens=10))
    await full.open(spec)
    wide = DraftTree(np.arange(20, dtype=np.int32), np.full(20, -1, np.int32))
    for round_index in range(9):
        with pytest.raises(InvalidDraft, match="no KV memory"):
            await full.verify("a", round_index, wide)
        await full.verify("a", round_index, EMPTY_DRAFT)
    assert full.usage().num_reserved_tokens == 64
    full.stop()


async def test_prompt_distributions_after_a_failover_are_those_of_the_prompt_alone(target: LocalTarget) -> None:
    """Emitted tokens are read in the same chunks, but nothing is said about them."""
    prompt, emitted = random_ids(40, seed=70), random_ids(25, seed=71)
    first = await target.open(make_spec(prompt, num_prompt_scores=12))
    again = await target.open(make_spec(prompt, emitted_ids=emitted, num_prompt_scores=12))
    await target.close("a")
    assert first.prompt_top is not None
    assert again.prompt_top is not None
    assert again.prompt_top.num_rows == 12
    np.testing.assert_array_equal(again.prompt_top.offsets, first.prompt_top.offsets)
    np.testing.assert_allclose(np.sort(again.prompt_top.probs), np.sort(first.prompt_top.probs), atol=1e-5)


class WithoutLogits:
    """A model whose logits cannot be read for prompts that start with the poisoned id."""

    POISON = 13

    def __init__(self, model: PackedCausalLM) -> None:
        self._model = model
        self.vocab_size, self.max_positions = model.vocab_size, model.max_positions

    def forward(self, blocks: list[Block]) -> list[BlockOutput]:
        outputs = self._model.forward(blocks)
        return [
            BlockOutput(output.logits.to("meta"), output.features) if block.token_ids[0] == self.POISON else output
            for block, output in zip(blocks, outputs, strict=True)
        ]


async def test_prompt_distributions_that_cannot_be_computed_fail_their_own_session_only(folder: Path) -> None:
    model = load_causal_lm(folder, "cpu", "target")
    runner = TargetRunner(WithoutLogits(model), LocalFeatureTransport(), max_sessions=4, max_cached_tokens=1024)  # type: ignore[arg-type]
    engine = Engine(runner, "without")
    engine.start()
    local = LocalTarget(engine, runner.usage)
    await local.open(make_spec(np.array([1, 2, 3], np.int32), "good", num_prompt_scores=2))
    with pytest.raises(ReplicaLost):
        await local.open(make_spec(np.array([13, 2, 3], np.int32), "bad", num_prompt_scores=2))
    assert local.usage().num_sessions == 1
    assert len((await local.verify("good", 0, EMPTY_DRAFT)).token_ids) == 1
    local.stop()
