"""Prefix reuse in a running target gives the same texts, distributions and features as without it, per tenant, in
bounded memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from hedgespec.config import DrafterConfig, TargetConfig
from hedgespec.engine.factory import build_drafters, build_target
from hedgespec.engine.local import LocalFeatureTransport, LocalTarget
from hedgespec.models.drafter_model import Usage
from hedgespec.models.memory.kv_memory import KvSlot
from hedgespec.types import DraftForm, DraftRequest, DraftTree, SamplingParams
from tests.engine_sessions import GREEDY, Draft, RecordingSink, decode, make_spec, random_ids
from tests.model_folders import VOCAB_SIZE, make_eagle3, make_llama, make_mistral, make_qwen3

NEAR_TIE = 1e-4
SYSTEM = random_ids(100, seed=1)
"""Three blocks and four ids."""

Build = Callable[..., LocalTarget]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_llama(tmp_path_factory.mktemp("llama"))


@pytest.fixture
def build(folder: Path) -> Iterator[Build]:
    """Targets that are stopped when the test ends."""
    running: list[LocalTarget] = []

    def start(
        prefix_cache_tokens: int = 2048, sink: RecordingSink | None = None, model: Path = folder, **limits: int
    ) -> LocalTarget:
        transport = LocalFeatureTransport()
        if sink is not None:
            transport.register("recorder", sink)
        config = TargetConfig(model=str(model), prefix_cache_tokens=prefix_cache_tokens, **limits)
        running.append(build_target(config, transport))
        return running[-1]

    yield start
    for target in running:
        target.stop()


def prompt_with(num_own: int, seed: int) -> np.ndarray:
    return np.concatenate([SYSTEM, random_ids(num_own, seed=seed + 50)])


async def num_cached(target: LocalTarget, prompt: np.ndarray, session_id: str = "probe", **changes: object) -> int:
    opened = await target.open(make_spec(prompt, session_id, **changes))
    await target.close(session_id)
    return opened.num_cached_tokens


@pytest.mark.parametrize("make", [make_llama, make_qwen3, make_mistral], ids=["llama", "qwen3", "mistral"])
async def test_greedy_texts_are_those_of_a_target_without_the_cache(
    build: Build, tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    """12 prompts that share 100 ids are each answered by the plain target and by one that reuses; texts that differ
    must part at a near-tie of the distributions, and at most one may."""
    model = make(tmp_path / "model")
    plain, reusing = build(0, model=model), build(model=model)
    reference = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    num_near_ties = 0
    for seed in range(12):
        prompt = prompt_with(3 * seed, seed)
        expected = await decode(plain, make_spec(prompt), 24)
        assert await num_cached(plain, prompt) == 0
        own = await decode(reusing, make_spec(prompt), 24)
        assert await num_cached(reusing, prompt) >= 96
        if own != expected:
            first = next(i for i, (a, b) in enumerate(zip(own, expected, strict=True)) if a != b)
            with torch.inference_mode():
                logits = reference(torch.tensor([[*prompt.tolist(), *own[:first]]])).logits[0, -1]
            best = logits.topk(2).values
            assert float(best[0] - best[1]) < NEAR_TIE
            num_near_ties += 1
    assert num_near_ties <= 1


async def test_a_seed_gives_the_same_text_cold_and_warm(build: Build) -> None:
    """`coupled`, with penalties: the text is a function of prompt, seed and parameters, not of what is cached."""
    plain, reusing = build(0), build()
    for seed in range(6):
        sampling = SamplingParams(temperature=1.0, seed=seed, presence_penalty=0.5, max_tokens=64)
        spec = make_spec(prompt_with(9, 0), sampling=sampling, noise_seed=seed)
        expected = await decode(plain, spec, 30)
        for _ in range(2):
            assert await decode(reusing, spec, 30) == expected
    assert await num_cached(reusing, prompt_with(9, 0)) == 96


async def test_only_whole_blocks_are_reused_and_at_most_all_rows_but_the_last_ids(build: Build) -> None:
    """The last id's row comes with the first verify, so of 96 + 1 known ids 96 rows are taken, of 96 ids 64."""
    target = build()
    assert await num_cached(target, SYSTEM) == 0
    assert [await num_cached(target, SYSTEM[:n]) for n in (1, 32, 33, 96, 97, 100)] == [0, 0, 32, 64, 96, 96]
    changed = SYSTEM.copy()
    changed[40] = (changed[40] + 1) % VOCAB_SIZE
    assert await num_cached(target, changed) == 32


async def test_another_tenant_never_hits(build: Build) -> None:
    target = build()
    assert await num_cached(target, SYSTEM, cache_salt="alice") == 0
    assert await num_cached(target, SYSTEM, cache_salt="bob") == 0
    assert await num_cached(target, SYSTEM, cache_salt="") == 0
    assert [await num_cached(target, SYSTEM, cache_salt=salt) for salt in ("alice", "bob", "")] == [96, 96, 96]


async def test_the_next_turn_of_a_chat_finds_what_was_emitted(build: Build) -> None:
    """Drafts of trees and chains with wrong branches leave no trace: what is cached are the verified tokens' rows, and
    a turn that is built on them continues as without the cache."""
    plain, reusing = build(0), build()
    expected = await decode(plain, make_spec(SYSTEM), 64)
    rng = np.random.default_rng(0)

    def bushy(ids: list[int]) -> DraftTree:
        right = expected[len(ids) - len(SYSTEM) :][:2]
        tokens = [int(rng.integers(VOCAB_SIZE)), *right]
        return DraftTree(np.array(tokens, np.int32), np.array([-1, -1, 1][: len(tokens)], np.int32))

    def chain(ids: list[int]) -> DraftTree:
        return DraftTree.chain(np.array([*expected[len(ids) - len(SYSTEM) :][:1], 1, 2], np.int32))

    drafts: list[tuple[Draft, DraftForm]] = [(bushy, DraftForm("tree", 4)), (chain, DraftForm())]
    for index, (draft, form) in enumerate(drafts):
        salt = f"tenant {index}"
        spec = make_spec(SYSTEM, "turn", cache_salt=salt, draft_form=form)
        text = np.concatenate([SYSTEM, await decode(reusing, spec, 60, draft)]).astype(np.int32)
        assert text.tolist() == [*SYSTEM.tolist(), *expected[:60]]
        second = np.concatenate([text, random_ids(5, seed=3)])
        assert await num_cached(reusing, second, cache_salt=salt) == 32 * (len(text) // 32)
        own = await decode(reusing, make_spec(second, "next", cache_salt=salt), 20)
        assert own == await decode(plain, make_spec(second, "next"), 20)


async def test_a_session_moved_here_reuses_prompt_and_emitted_ids(build: Build) -> None:
    """Failover to a target that knows the beginning: the same continuation; only prompt tokens are reported."""
    plain, reusing = build(0), build()
    for sampling in (GREEDY, SamplingParams(temperature=0.9, seed=3, max_tokens=64)):
        whole = await decode(plain, make_spec(SYSTEM, sampling=sampling), 60)
        await decode(reusing, make_spec(SYSTEM, sampling=sampling), 60)
        spec = make_spec(SYSTEM, sampling=sampling, emitted_ids=np.array(whole[:40], np.int32))
        assert await num_cached(reusing, SYSTEM, sampling=sampling, emitted_ids=spec.emitted_ids) == len(SYSTEM)
        assert await decode(reusing, spec, 20) == whole[40:]


async def test_sessions_that_begin_alike_at_the_same_time_do_not_disturb_each_other(build: Build) -> None:
    """Six at once, some after others have begun, all text and rows their own; the later ones hit while the earlier
    ones are still open."""
    plain, reusing = build(0), build()
    prompts = [prompt_with(4 + n, n % 3) for n in range(6)]
    expected = [await decode(plain, make_spec(p), 30) for p in prompts]
    opened = await reusing.open(make_spec(prompts[0], "open"))
    assert opened.num_cached_tokens == 0
    assert await num_cached(reusing, prompts[1]) == 96

    async def later(index: int) -> list[int]:
        await asyncio.sleep(0.01 * index)
        return await decode(reusing, make_spec(prompts[index], f"s{index}"), 30)

    assert await asyncio.gather(*(later(index) for index in range(6))) == expected
    await reusing.close("open")


async def test_prompts_longer_than_a_chunk_are_reused_whole(build: Build) -> None:
    target = build()
    prompt = random_ids(400, seed=8)
    expected = await decode(target, make_spec(prompt), 10)
    assert await num_cached(target, prompt) == 384
    assert await decode(target, make_spec(prompt), 10) == expected


async def test_prompt_distributions_are_computed_where_they_are_asked_for(build: Build) -> None:
    """Rows whose logits are wanted are not taken from the cache; the others are, and the distributions are the same."""
    plain, reusing = build(0), build()
    await num_cached(reusing, SYSTEM)
    for num_scores, num_reused in ((0, 96), (3, 96), (4, 64), (50, 32), (99, 0), (300, 0)):
        cold = await plain.open(make_spec(SYSTEM, num_prompt_scores=num_scores))
        warm = await reusing.open(make_spec(SYSTEM, num_prompt_scores=num_scores))
        assert warm.num_cached_tokens == num_reused
        if cold.prompt_top is None or warm.prompt_top is None:
            assert cold.prompt_top is warm.prompt_top is None
            continue
        assert warm.prompt_top.num_rows == min(num_scores, 99)
        np.testing.assert_array_equal(warm.prompt_top.offsets, cold.prompt_top.offsets)
        np.testing.assert_allclose(np.sort(warm.prompt_top.probs), np.sort(cold.prompt_top.probs), atol=1e-5)


async def test_features_of_reused_rows_are_pushed_as_after_a_prefill(build: Build) -> None:
    """Every position once and in order, with the values of the pass that computed them; emitted positions too."""
    sink = RecordingSink()
    target = build(sink=sink)
    sinks = ("local:recorder",)
    own = await decode(target, make_spec(SYSTEM, "cold", feature_sinks=sinks), 40)
    text = np.concatenate([SYSTEM, own]).astype(np.int32)
    opened = await target.open(make_spec(text, "warm", feature_sinks=sinks))
    await target.close("warm")
    assert opened.num_cached_tokens == 128
    cold, warm = sink.rows("cold"), sink.rows("warm")
    blocks = [block for block in sink.blocks if block.session_id == "warm"]
    positions = [block.start_position + offset for block in blocks for offset in range(len(block.rows))]
    assert positions == list(range(len(text) - 1))
    for position in range(len(text) - 1):
        np.testing.assert_allclose(warm[position], cold[position], atol=0 if position < 128 else 1e-4)


async def test_text_computed_without_features_is_computed_again_for_sessions_that_need_them(build: Build) -> None:
    sink = RecordingSink()
    target = build(sink=sink)
    assert await num_cached(target, SYSTEM) == 0
    assert await num_cached(target, SYSTEM, "needs", feature_sinks=("local:recorder",)) == 0
    assert sorted(sink.rows("needs")) == list(range(99))
    assert await num_cached(target, SYSTEM, feature_sinks=("local:recorder",)) == 96
    assert await num_cached(target, SYSTEM) == 96


async def test_a_head_drafts_the_same_after_a_hit(folder: Path, tmp_path: Path) -> None:
    """Nothing is lost to EAGLE heads: their draft with reused features is the draft with computed ones."""
    transport = LocalFeatureTransport()
    config = TargetConfig(model=str(folder))
    target = build_target(config, transport)
    head = build_drafters([DrafterConfig(id="head", kind="eagle3", model=str(make_eagle3(tmp_path)))], config)["head"]
    transport.register("head", head)
    drafts = []
    for session_id, num_reused in (("cold", 0), ("warm", 96)):
        spec = make_spec(prompt_with(7, 0), session_id, feature_sinks=("local:head",))
        await head.open(spec)
        assert (await target.open(spec)).num_cached_tokens == num_reused
        drafts.append((await head.draft(DraftRequest(session_id, 0, 6))).token_ids.tolist())
    target.stop()
    head.stop()
    assert drafts[0] == drafts[1]
    assert len(drafts[0]) == 6


async def test_memory_is_bounded_and_sessions_come_first(build: Build) -> None:
    """Cache and reservations together stay within max_cached_tokens, the cache within its own budget; a session that
    needs all memory gets it, and then nothing is held."""
    target = build(prefix_cache_tokens=256, max_cached_tokens=320)
    for seed in range(8):
        await decode(target, make_spec(random_ids(100, seed=seed)), 5)
        usage = target.usage()
        assert usage.num_prefix_tokens + usage.num_reserved_tokens <= 320
    assert target.usage() == Usage(num_prefix_tokens=128)  # 164 of 320 were reserved while they were added
    assert await num_cached(target, random_ids(100, seed=7)) == 96
    small = make_spec(random_ids(200, seed=9), "small", SamplingParams(temperature=0.0, max_tokens=0))
    await target.open(small)
    assert target.usage().num_prefix_tokens == 96
    await target.close("small")
    assert await num_cached(target, random_ids(100, seed=1)) == 0
    await target.open(make_spec(random_ids(40), "whole", SamplingParams(temperature=0.0, max_tokens=280)))
    assert target.usage() == Usage(1, 39, 320, 0)
    await target.close("whole")
    assert target.usage() == Usage()


async def test_eviction_does_not_touch_a_live_session(build: Build) -> None:
    """A session that began with reused rows goes on unchanged while these blocks are given up."""
    plain, target = build(0), build(prefix_cache_tokens=128)
    expected = await decode(plain, make_spec(SYSTEM), 20)
    assert [await num_cached(target, SYSTEM) for _ in range(2)] == [0, 96]
    sizes = []

    def crowd_out(ids: list[int]) -> DraftTree:
        sizes.append(target.usage().num_prefix_tokens)
        return DraftTree.chain(np.zeros(0, np.int32))

    async def others() -> None:
        for seed in range(10):
            await decode(target, make_spec(random_ids(130, seed=seed + 20), f"other {seed}"), 2)

    own, _ = await asyncio.gather(decode(target, make_spec(SYSTEM, "live"), 20, crowd_out), others())
    assert own == expected
    assert max(sizes) <= 128
    assert await num_cached(target, SYSTEM) == 0


async def test_a_device_without_memory_for_copies_costs_the_cache_and_no_session(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = build()
    expected = await decode(target, make_spec(SYSTEM), 40)
    assert target.usage().num_prefix_tokens == 128

    def fail(slot: KvSlot, start: int, num_rows: int) -> torch.Tensor:
        raise torch.OutOfMemoryError("no memory on this device")

    with monkeypatch.context() as patch:
        patch.setattr(KvSlot, "copied", fail)
        assert await decode(target, make_spec(random_ids(100, seed=5), "other"), 1)
    assert target.usage() == Usage()
    assert await decode(target, make_spec(SYSTEM), 40) == expected
    assert target.usage().num_prefix_tokens == 128
