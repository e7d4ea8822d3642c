"""The target of one process: lossless for any draft, features as transformers computes them, sessions independent."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
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
from hedgespec.errors import InvalidDraft, ReplicaBusy, ReplicaLost, RequestError, UnknownSession
from hedgespec.models.causal_lm.block import Block, BlockOutput
from hedgespec.models.causal_lm.folder import load_causal_lm
from hedgespec.models.causal_lm.packed import PackedCausalLM
from hedgespec.models.drafter_model import Usage
from hedgespec.types import EMPTY_DRAFT, DraftForm, DraftTree, SamplingParams, SparseRows
from tests.engine_sessions import GREEDY, RecordingSink, decode, make_spec, random_ids
from tests.model_folders import MAX_POSITIONS, VOCAB_SIZE, make_llama, make_qwen3

NEAR_TIE = 1e-4
NUM_TOKENS = 40


@pytest.fixture(scope="module", params=["llama", "qwen3"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    make = {"llama": make_llama, "qwen3": make_qwen3}[request.param]
    return make(tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def sink() -> RecordingSink:
    return RecordingSink()


@pytest.fixture(scope="module")
def target(folder: Path, sink: RecordingSink) -> Iterator[LocalTarget]:
    transport = LocalFeatureTransport()
    transport.register("recorder", sink)
    config = TargetConfig(model=str(folder), max_sessions=6, max_cached_tokens=4096, prefix_cache_tokens=0)
    local = build_target(config, transport)
    yield local
    local.stop()


@pytest.fixture(scope="module")
def reference(folder: Path) -> torch.nn.Module:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


@torch.inference_mode()
def generated(reference: torch.nn.Module, prompt: np.ndarray, num_tokens: int) -> list[int]:
    ids = torch.tensor(prompt[None].astype(np.int64))
    mask = torch.ones_like(ids)
    output = reference.generate(
        ids, attention_mask=mask, max_new_tokens=num_tokens, do_sample=False, pad_token_id=0, eos_token_id=None
    )
    return output[0, len(prompt) :].tolist()


@torch.inference_mode()
def assert_same_but_near_ties(reference: torch.nn.Module, prompt: np.ndarray, own: list[int], other: list[int]) -> None:
    """Fail unless the texts are equal, or part where the two largest logits are closer than float32 can tell apart."""
    if own == other:
        return
    first = next(i for i, (a, b) in enumerate(zip(own, other, strict=True)) if a != b)
    logits = reference(torch.tensor([[*prompt.tolist(), *own[:first]]])).logits[0, -1]
    best = logits.topk(2).values
    assert float(best[0] - best[1]) < NEAR_TIE, f"token {first}: {own[first]} instead of {other[first]}"


@pytest.mark.parametrize("length", range(1, 9))
async def test_greedy_text_equals_generate_for_every_draft_length_and_quality(
    target: LocalTarget, reference: torch.nn.Module, length: int
) -> None:
    prompt = random_ids(13, seed=length)
    expected = generated(reference, prompt, NUM_TOKENS + length)
    rng = np.random.default_rng(length)

    def oracle(ids: list[int]) -> DraftTree:
        done = len(ids) - len(prompt)
        return DraftTree.chain(np.array(expected[done : done + length], np.int32))

    def noisy(ids: list[int]) -> DraftTree:
        tokens = oracle(ids).token_ids.copy()
        tokens[rng.random(len(tokens)) < 0.3] = rng.integers(VOCAB_SIZE)
        return DraftTree.chain(tokens)

    def wrong(ids: list[int]) -> DraftTree:
        return DraftTree.chain((oracle(ids).token_ids + 1) % VOCAB_SIZE)

    for name, draft in (("oracle", oracle), ("noisy", noisy), ("wrong", wrong), ("none", lambda ids: EMPTY_DRAFT)):
        own = await decode(target, make_spec(prompt, session_id=name), NUM_TOKENS, draft)
        assert_same_but_near_ties(reference, prompt, own, expected[:NUM_TOKENS])


@pytest.mark.parametrize(
    "sampling", [GREEDY, SamplingParams(temperature=1.0, seed=3, max_tokens=64)], ids=["greedy", "coupled"]
)
async def test_text_is_the_same_with_random_trees(target: LocalTarget, sampling: SamplingParams) -> None:
    """Trees that hold the right continuation among wrong branches, at any node, give the text of plain decoding in
    fewer passes; so positions, masks and kept KV rows of every accepted path are right."""
    prompt, rng = random_ids(11, seed=5), np.random.default_rng(5)
    expected = await decode(target, make_spec(prompt, "plain", sampling), NUM_TOKENS + 8)
    num_passes = 0

    def bushy(ids: list[int]) -> DraftTree:
        nonlocal num_passes
        num_passes += 1
        done = len(ids) - len(prompt)
        tokens, parents, spine = [], [], -1
        for token in expected[done : done + int(rng.integers(1, 6))]:
            for _ in range(int(rng.integers(0, 3))):  # wrong branches before the right one, some with children
                tokens.append(int(rng.integers(VOCAB_SIZE)))
                parents.append(int(rng.integers(-1, len(tokens) - 1)) if len(tokens) > 1 else -1)
            tokens.append(token)
            parents.append(spine)
            spine = len(tokens) - 1
        return DraftTree(np.array(tokens, np.int32), np.array(parents, np.int32))

    own = await decode(target, make_spec(prompt, "tree", sampling, draft_form=DraftForm("tree", 4)), NUM_TOKENS, bushy)
    assert own == expected[:NUM_TOKENS]
    assert num_passes < NUM_TOKENS / 2


async def test_prompt_distributions_are_those_of_plain_passes_across_chunks(
    folder: Path, reference: torch.nn.Module
) -> None:
    """The last 300 of 330 prompt tokens lie in two prefill chunks; row r is the distribution of its prompt token."""
    target = build_target(TargetConfig(model=str(folder)), LocalFeatureTransport())
    prompt = random_ids(330, seed=9)
    opened = await target.open(make_spec(prompt, "many", num_prompt_scores=300))
    few = await target.open(make_spec(prompt[:4], "few", num_prompt_scores=300))
    none = await target.open(make_spec(prompt[:1], "one", num_prompt_scores=300))
    target.stop()
    with torch.inference_mode():
        distributions = reference(torch.tensor(prompt[None].astype(np.int64))).logits[0].softmax(-1).numpy()
    assert opened.prompt_top is not None
    assert opened.prompt_top.num_rows == 300
    for row in range(300):
        ids, probs = opened.prompt_top.row(row)
        np.testing.assert_allclose(probs, distributions[330 - 300 + row - 1][ids], atol=1e-4)
    assert few.prompt_top is not None
    assert few.prompt_top.num_rows == 3
    assert none.prompt_top is None


async def test_a_perfect_draft_is_accepted_whole(target: LocalTarget, reference: torch.nn.Module) -> None:
    prompt = random_ids(9, seed=2)
    expected = generated(reference, prompt, 6)
    await target.open(make_spec(prompt))
    verdict = await target.verify("a", 0, DraftTree.chain(np.array(expected[:5], np.int32)))
    await target.close("a")
    assert verdict.token_ids.tolist() == expected
    assert verdict.num_accepted == 5


async def test_interleaved_sessions_equal_sessions_alone(target: LocalTarget) -> None:
    prompts = [random_ids(5 + 7 * n, seed=n) for n in range(5)]
    rng = np.random.default_rng(0)

    def guess(ids: list[int]) -> DraftTree:
        return DraftTree.chain(rng.integers(0, VOCAB_SIZE, int(rng.integers(0, 6))).astype(np.int32))

    alone = [await decode(target, make_spec(p, session_id="alone"), NUM_TOKENS) for p in prompts]
    together = await asyncio.gather(
        *(decode(target, make_spec(p, session_id=f"s{n}"), NUM_TOKENS, guess) for n, p in enumerate(prompts))
    )
    assert together == alone


async def test_a_session_continued_elsewhere_from_its_emitted_ids_gives_the_same_text(target: LocalTarget) -> None:
    prompt = random_ids(11, seed=4)
    for sampling in (GREEDY, SamplingParams(temperature=0.9, seed=3), SamplingParams(temperature=1.0)):
        whole = await decode(target, make_spec(prompt, sampling=sampling), 24)
        first = whole[:10]
        rest = make_spec(prompt, sampling=sampling, emitted_ids=np.array(first, np.int32))
        assert await decode(target, rest, 14) == whole[10:]


async def test_coupled_text_is_the_same_with_any_draft(target: LocalTarget) -> None:
    prompt, sampling = random_ids(8, seed=5), SamplingParams(temperature=1.0, seed=11, presence_penalty=0.7)
    plain = await decode(target, make_spec(prompt, sampling=sampling), 30)
    for shift in (0, 1):

        def draft(ids: list[int], shift: int = shift) -> DraftTree:
            done = len(ids) - len(prompt)
            return DraftTree.chain((np.array(plain[done : done + 4], np.int32) + shift) % VOCAB_SIZE)

        assert await decode(target, make_spec(prompt, sampling=sampling), 30, draft) == plain


async def test_features_of_prompt_and_accepted_positions_equal_the_hidden_states_of_transformers(
    target: LocalTarget, reference: torch.nn.Module, sink: RecordingSink
) -> None:
    prompt = random_ids(300, seed=6)  # longer than a prefill chunk
    expected = generated(reference, prompt, 20)

    def half_right(ids: list[int]) -> DraftTree:
        done = len(ids) - len(prompt)
        tokens = np.array(expected[done : done + 4], np.int32)
        tokens[2:] = (tokens[2:] + 1) % VOCAB_SIZE
        return DraftTree.chain(tokens)

    own = await decode(target, make_spec(prompt, "f", feature_sinks=("local:recorder",)), 16, half_right)
    text = [*prompt.tolist(), *own]
    rows = sink.rows("f")
    with torch.inference_mode():
        hidden = reference(torch.tensor([text]), output_hidden_states=True).hidden_states
    exact = torch.cat([hidden[layer][0] for layer in (2, 3, 3)], dim=-1).numpy()
    known = sorted(position for position in rows if position < len(text))
    assert known[: len(text) - 1] == list(range(len(text) - 1))
    np.testing.assert_allclose(np.stack([rows[p] for p in known]), exact[known], atol=1e-4, rtol=1e-4)


async def test_close_frees_all_memory_and_may_be_repeated(target: LocalTarget) -> None:
    await target.open(make_spec(random_ids(30)))
    assert target.usage().num_sessions == 1
    assert target.usage().num_cached_tokens == 29
    await target.close("a")
    await target.close("a")
    await target.close("never opened")
    assert target.usage() == Usage()


async def test_memory_is_reserved_at_open_and_a_full_target_says_busy(target: LocalTarget) -> None:
    greedy = SamplingParams(temperature=0.0, max_tokens=400)
    specs = [make_spec(random_ids(12), session_id=f"s{n}", sampling=greedy) for n in range(7)]
    for spec in specs[:6]:
        await target.open(spec)
    assert target.usage().num_reserved_tokens == 6 * 412
    with pytest.raises(ReplicaBusy, match="All 6 sessions"):
        await target.open(specs[6])
    for spec in specs[:6]:
        await target.close(spec.session_id)
    await target.open(specs[6])
    await target.close(specs[6].session_id)


async def test_a_target_without_kv_memory_says_busy_and_serves_the_others(folder: Path) -> None:
    config = TargetConfig(model=str(folder), max_cached_tokens=128)
    small = build_target(config, LocalFeatureTransport())
    await small.open(make_spec(random_ids(20), sampling=SamplingParams(temperature=0.0, max_tokens=50)))
    with pytest.raises(ReplicaBusy, match="No KV memory for 84 tokens"):
        await small.open(make_spec(random_ids(20), "b"))
    assert len((await small.verify("a", 0, EMPTY_DRAFT)).token_ids) == 1
    small.stop()


class FragileModel:
    """Fails for every pass that holds a block which starts with the poisoned id."""

    POISON = 13

    def __init__(self, model: PackedCausalLM) -> None:
        self._model = model
        self.vocab_size, self.max_positions = model.vocab_size, model.max_positions

    def forward(self, blocks: Sequence[Block]) -> list[BlockOutput]:
        if any(block.token_ids[0] == self.POISON for block in blocks):
            raise RuntimeError("a kernel failed")
        return self._model.forward(blocks)


async def test_a_session_whose_pass_fails_does_not_hurt_the_others(folder: Path) -> None:
    model = load_causal_lm(folder, "cpu", "target")
    runner = TargetRunner(FragileModel(model), LocalFeatureTransport(), max_sessions=4, max_cached_tokens=1024)
    engine = Engine(runner, "fragile")
    engine.start()
    local = LocalTarget(engine, runner.usage)
    prompt = np.array([1, 2, 3], np.int32)
    expected = await decode(local, make_spec(prompt), 5)
    await local.open(make_spec(np.array([1, 2, 13], np.int32), "bad"))
    await local.open(make_spec(prompt, "good"))
    with pytest.raises(ReplicaLost, match="a kernel failed"):
        await local.open(make_spec(np.array([13, 2, 3], np.int32), "worse"))
    assert local.usage().num_sessions == 2
    for round_index in range(5):
        good, bad = await asyncio.gather(
            local.verify("good", round_index, EMPTY_DRAFT),
            local.verify("bad", round_index, EMPTY_DRAFT),
            return_exceptions=True,
        )
        assert isinstance(bad, ReplicaLost)
        assert not isinstance(good, BaseException)
        assert good.token_ids.tolist() == expected[round_index : round_index + 1]
    local.stop()


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        (DraftTree.chain(np.array([VOCAB_SIZE])), "must lie in"),
        (DraftTree.chain(np.array([-1])), "must lie in"),
        (DraftTree.chain(np.zeros(9)), "at most 8"),
        (DraftTree(np.zeros(129, np.int32), np.full(129, -1, np.int32)), "at most 128"),
        (DraftTree(np.zeros(2, np.int32), np.array([1, 0], np.int32)), "earlier node"),
    ],
)
async def test_an_invalid_draft_changes_nothing_and_hurts_no_other_session(
    target: LocalTarget, tree: DraftTree, message: str
) -> None:
    prompt = random_ids(10, seed=9)
    expected = await decode(target, make_spec(prompt), 8)
    await target.open(make_spec(prompt, "good"))
    await target.open(make_spec(prompt, "bad"))
    for round_index in range(8):
        good, bad = await asyncio.gather(
            target.verify("good", round_index, EMPTY_DRAFT),
            target.verify("bad", round_index, tree),
            return_exceptions=True,
        )
        assert not isinstance(good, BaseException)
        assert good.token_ids.tolist() == expected[round_index : round_index + 1]
        assert isinstance(bad, InvalidDraft)
        assert message in str(bad)
    retried = await target.verify("bad", 8, EMPTY_DRAFT)
    assert retried.token_ids.tolist() == expected[:1]
    await target.close("good")
    await target.close("bad")


async def test_a_rejection_draft_without_its_distribution_is_invalid(target: LocalTarget) -> None:
    await target.open(make_spec(random_ids(4), sampling=SamplingParams(temperature=1.0)))
    with pytest.raises(InvalidDraft, match="draft_probs"):
        await target.verify("a", 0, DraftTree.chain(np.array([1], np.int32)))
    rows = SparseRows(np.array([0, 1], np.int32), np.array([2], np.int32), np.ones(1, np.float32))
    with pytest.raises(InvalidDraft):
        await target.verify("a", 0, DraftTree.chain(np.array([1], np.int32), rows))
    await target.close("a")


async def test_unknown_sessions_and_hopeless_prompts_are_refused(target: LocalTarget) -> None:
    with pytest.raises(UnknownSession):
        await target.verify("unknown", 0, EMPTY_DRAFT)
    with pytest.raises(RequestError, match="empty"):
        await target.open(make_spec(np.zeros(0, np.int32)))
    with pytest.raises(RequestError, match="must lie in"):
        await target.open(make_spec(np.array([VOCAB_SIZE], np.int32)))
    with pytest.raises(RequestError, match="context"):
        await target.open(make_spec(random_ids(MAX_POSITIONS + 1)))
    assert target.usage() == Usage()


async def test_the_context_may_be_filled_to_its_last_position(target: LocalTarget) -> None:
    await target.open(make_spec(random_ids(MAX_POSITIONS - 2)))
    with pytest.raises(InvalidDraft, match="room for 2"):
        await target.verify("a", 0, DraftTree.chain(np.zeros(3, np.int32)))
    for round_index in range(3):
        await target.verify("a", round_index, EMPTY_DRAFT)
    with pytest.raises(RequestError, match="full"):
        await target.verify("a", 3, EMPTY_DRAFT)
    await target.close("a")


async def test_a_one_token_prompt_needs_no_prefill(target: LocalTarget, reference: torch.nn.Module) -> None:
    prompt = random_ids(1, seed=3)
    assert await decode(target, make_spec(prompt), 10) == generated(reference, prompt, 10)


async def test_target_top_carries_the_largest_probabilities(target: LocalTarget) -> None:
    await target.open(make_spec(random_ids(9), sampling=SamplingParams(temperature=0.8), num_target_top=6))
    verdict = await target.verify("a", 0, EMPTY_DRAFT)
    await target.close("a")
    assert verdict.target_top is not None
    ids, probs = verdict.target_top.row(0)
    assert len(ids) == 6
    assert probs.tolist() == sorted(probs.tolist(), reverse=True)


async def test_a_stopped_target_fails_what_is_asked_of_it(folder: Path) -> None:
    stopped = build_target(TargetConfig(model=str(folder)), LocalFeatureTransport())
    stopped.stop()
    with pytest.raises(ReplicaLost):
        await stopped.open(make_spec(random_ids(3)))
