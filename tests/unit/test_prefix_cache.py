"""The prefix cache alone: chains of keys, the order in which blocks are given up, and the memory it may use."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from hedgespec.models.memory.kv_memory import KvMemory, KvSlot
from hedgespec.models.memory.prefix_cache import BLOCK_TOKENS, BlockChain, CachedBlock, PrefixCache


def keys_of(name: str, num_blocks: int) -> list[bytes]:
    return [f"{name}{index}".encode() for index in range(num_blocks)]


def block(value: float, has_features: bool = False) -> CachedBlock:
    features = np.full((BLOCK_TOKENS, 6), value, np.float32) if has_features else None
    return CachedBlock(torch.full((4, 1, BLOCK_TOKENS, 2), value), features)


def make_cache(num_blocks: int, num_unreserved: int = 1000) -> PrefixCache:
    return PrefixCache(KvMemory(num_unreserved * BLOCK_TOKENS), num_blocks * BLOCK_TOKENS)


def add(cache: PrefixCache, name: str, num_blocks: int, first: int = 0) -> None:
    cache.add(keys_of(name, num_blocks), first, False, lambda index: block(index))


def num_found(cache: PrefixCache, name: str, num_blocks: int = 10) -> int:
    return len(cache.find(keys_of(name, num_blocks), needs_features=False))


def test_keys_are_equal_exactly_for_equal_beginnings_and_salts() -> None:
    """One changed id changes the key of its block and of all after it; another salt changes all; growing a text in
    steps changes none."""
    ids = np.arange(4 * BLOCK_TOKENS, dtype=np.int32)
    keys = BlockChain("a").keys(ids, 4)
    stepwise = BlockChain("a")
    assert [stepwise.keys(ids[: n * BLOCK_TOKENS], n)[-1] for n in range(1, 5)] == keys
    changed = ids.copy()
    changed[2 * BLOCK_TOKENS] += 1
    others = BlockChain("a").keys(changed, 4)
    assert [a == b for a, b in zip(keys, others, strict=True)] == [True, True, False, False]
    assert not set(keys) & set(BlockChain("b").keys(ids, 4))
    assert len({*keys}) == 4


def test_equal_blocks_at_other_positions_have_other_keys() -> None:
    """Rows depend on everything before them: the same 32 ids twice in a row are two blocks."""
    ids = np.tile(np.arange(BLOCK_TOKENS, dtype=np.int32), 3)
    assert len(set(BlockChain("").keys(ids, 3))) == 3


def test_the_least_recently_used_chain_is_given_up_from_its_end() -> None:
    cache = make_cache(num_blocks=6)
    add(cache, "old", 3)
    add(cache, "new", 3)
    assert num_found(cache, "old") == 3  # now it is the newer one
    add(cache, "third", 2)
    assert [num_found(cache, name) for name in ("old", "new", "third")] == [3, 1, 2]
    assert cache.num_tokens == 6 * BLOCK_TOKENS


def test_a_chain_that_is_longer_than_the_budget_keeps_its_beginning() -> None:
    cache = make_cache(num_blocks=4)
    add(cache, "other", 2)
    add(cache, "long", 10)
    assert (num_found(cache, "long"), num_found(cache, "other")) == (4, 0)
    add(cache, "long", 12, first=10)
    assert num_found(cache, "long", 12) == 4


def test_no_block_is_kept_without_the_blocks_before_it() -> None:
    """5000 random operations on ten chains that share beginnings: what is held can be found, within the budget."""
    rng = np.random.default_rng(0)
    memory = KvMemory(40 * BLOCK_TOKENS)
    cache = PrefixCache(memory, 24 * BLOCK_TOKENS)
    chains = [keys_of("shared", n) + keys_of(f"own{n}", 12 - n) for n in range(10)]
    slots: list[KvSlot] = []
    for _ in range(5000):
        chain = chains[rng.integers(10)][: int(rng.integers(1, 13))]
        choice = rng.integers(4)
        if choice == 0:
            cache.find(chain, needs_features=bool(rng.integers(2)))
        elif choice < 3:
            first = int(rng.integers(len(chain)))
            cache.add(chain, first, bool(rng.integers(2)), lambda index: block(index))
        elif memory.num_unreserved_tokens > 10 * BLOCK_TOKENS:
            slots.append(memory.open(10 * BLOCK_TOKENS))
        else:
            memory.free(slots.pop())
        findable = {k for c in chains for k in c[: len(cache.find(c, needs_features=False))]}
        assert cache.num_tokens == len(findable) * BLOCK_TOKENS <= cache.max_tokens
        assert cache.num_tokens + memory.num_reserved_tokens <= memory.max_tokens


def test_sessions_take_unreserved_memory_back_and_are_never_refused() -> None:
    memory = KvMemory(10 * BLOCK_TOKENS)
    cache = PrefixCache(memory, 8 * BLOCK_TOKENS)
    add(cache, "a", 8)
    slot = memory.open(6 * BLOCK_TOKENS)
    assert num_found(cache, "a") == 4
    add(cache, "b", 8)
    assert cache.num_tokens == 4 * BLOCK_TOKENS
    memory.extend(slot, 10 * BLOCK_TOKENS)
    assert cache.num_tokens == 0
    memory.free(slot)
    add(cache, "a", 8)
    assert cache.num_tokens == 8 * BLOCK_TOKENS


def test_blocks_without_features_are_no_hit_for_sessions_that_need_them_and_are_replaced() -> None:
    cache = make_cache(num_blocks=8)
    keys = keys_of("a", 3)
    add(cache, "a", 3)
    assert cache.find(keys, needs_features=True) == []
    made = itertools.count()
    cache.add(keys[:2], 0, True, lambda index: block(next(made), has_features=True))
    assert len(cache.find(keys, needs_features=True)) == 2
    assert num_found(cache, "a") == 3
    cache.add(keys[:2], 0, False, lambda index: block(next(made)))
    assert (len(cache.find(keys, needs_features=True)), next(made)) == (2, 2)


def test_copied_rows_begin_another_slot_and_are_its_own() -> None:
    """All layers, keys and values; writing in either slot afterwards does not show in the other."""
    memory = KvMemory(1000)
    first, second = memory.open(100), memory.open(100)
    rows = torch.randn(3, 2, 1, 2, 40, 4, generator=torch.Generator().manual_seed(0))
    first.require(40)
    for layer in range(3):
        first.write(layer, rows[layer, 0], rows[layer, 1], 0)
    first.length = 40
    copied = first.copied(0, 32)
    assert copied is not None
    second.fill(copied)
    assert second.length == 32
    first.layers[1][0].zero_()
    for layer in range(3):
        for kind in range(2):
            assert torch.equal(second.layers[layer][kind][:, :, :32], rows[layer, kind][:, :, :32])


@pytest.mark.parametrize("layers", [(0, 2), (0, 1)], ids=["numbered with a gap", "of two widths"])
def test_rows_of_unlike_layers_are_not_copied(layers: tuple[int, int]) -> None:
    slot = KvMemory(100).open(50)
    slot.require(40)
    for layer, width in zip(layers, (4, 4 if layers == (0, 2) else 8), strict=True):
        slot.write(layer, torch.zeros(1, 2, 40, width), torch.zeros(1, 2, 40, width), 0)
    slot.length = 40
    assert slot.copied(0, 32) is None
