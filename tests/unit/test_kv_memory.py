"""KV memory: bounded over all sessions, grown by doubling, never reading what was cropped."""

from __future__ import annotations

import pytest
import torch

from hedgespec.errors import ReplicaBusy
from hedgespec.models.memory.kv_memory import CAPACITY_STEP, KvMemory, KvSlot


def rows(values: list[float]) -> torch.Tensor:
    """Return rows [1, 2, len(values), 3]: every entry of a row is its value."""
    return torch.tensor(values)[None, None, :, None].expand(1, 2, -1, 3).clone()


def append(slot: KvSlot, values: list[float]) -> list[float]:
    """Write and commit rows of layer 0; return what attention would see afterwards."""
    slot.require(slot.length + len(values))
    slot.write(0, rows(values), -rows(values), slot.length)
    slot.length += len(values)
    keys, stored_values = (stored[:, :, : slot.length] for stored in slot.layers[0])
    assert torch.equal(keys, -stored_values)
    return keys[0, 0, :, 0].tolist()


def test_rows_are_seen_in_order_and_survive_growth() -> None:
    slot = KvMemory(1000).open(10)
    seen: list[float] = []
    for length in (3, CAPACITY_STEP, 1, 200):
        seen = append(slot, [float(len(seen) + i) for i in range(length)])
    assert seen == [float(i) for i in range(204 + CAPACITY_STEP)]


def test_cropped_rows_are_overwritten_and_not_seen() -> None:
    slot = KvMemory(100).open(10)
    append(slot, [0.0, 1.0, 2.0, 3.0])
    slot.length = 2
    assert append(slot, [7.0]) == [0.0, 1.0, 7.0]


def test_a_kept_path_with_gaps_is_compacted_in_every_layer() -> None:
    slot = KvMemory(100).open(10)
    slot.require(6)
    for layer in range(3):
        slot.write(layer, rows([float(i) for i in range(6)]), rows([float(i) for i in range(6)]), 0)
    slot.length = 6
    slot.keep(2, [3, 5])
    assert slot.length == 4
    for keys, values in slot.layers.values():
        assert keys[0, 0, :4, 0].tolist() == values[0, 1, :4, 2].tolist() == [0.0, 1.0, 3.0, 5.0]


def test_writing_does_not_copy_what_is_there() -> None:
    slot = KvMemory(100).open(100)
    append(slot, [0.0] * 10)
    before = slot.layers[0][0].data_ptr()
    append(slot, [1.0] * 10)
    assert slot.layers[0][0].data_ptr() == before


def test_reservations_are_bounded_over_all_slots_and_freed() -> None:
    memory = KvMemory(100)
    first, second = memory.open(60), memory.open(30)
    with pytest.raises(ReplicaBusy, match=r"90 of 100 are reserved"):
        memory.open(11)
    with pytest.raises(ReplicaBusy):
        second.require(41)
    assert memory.num_reserved_tokens == 90
    second.require(40)
    memory.free(first)
    memory.free(first)
    assert memory.num_reserved_tokens == 40
    memory.open(60)


def test_capacity_exceeds_the_reservation_by_less_than_a_step_of_zeros() -> None:
    slot = KvMemory(1000).open(70)
    for _ in range(70):
        append(slot, [1.0])
    assert slot.capacity == 2 * CAPACITY_STEP
    assert not slot.layers[0][0][:, :, 70:].any()


def test_usage_counts_cached_rows() -> None:
    memory = KvMemory(100)
    slot = memory.open(50)
    append(slot, [0.0] * 7)
    assert memory.num_cached_tokens == 7
    memory.free(slot)
    assert (memory.num_cached_tokens, memory.num_reserved_tokens) == (0, 0)
