"""Keys, sums, the codec and the preference vector: the pure half of the preferences."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hedgespec.errors import CorruptRecord, InvalidObservation, StoreError
from hedgespec.store.codec import MAX_RECORD_BYTES, decode, encode
from hedgespec.store.record import (
    AnswerOutcome,
    DrafterTotals,
    FoldMark,
    PreferenceKey,
    PreferenceRecord,
    answer_totals,
    merged,
    preference_vector,
    process_and_number,
)

DRAFTERS = ("eagle@1", "ngram@0", "lm@7")


def outcome(num_tokens: int = 40, **passes: float) -> AnswerOutcome:
    return AnswerOutcome(passes, num_tokens)


@st.composite
def totals(draw: st.DrawFn) -> DrafterTotals:
    count, tokens = draw(st.integers(0, 10**6)), draw(st.integers(0, 10**9))
    return DrafterTotals(draw(st.floats(0, count)), draw(st.floats(0, tokens)), tokens, count)


records = st.builds(
    PreferenceRecord,
    st.integers(0, 2**63 - 1),
    st.dictionaries(st.integers(0, 2**40), st.dictionaries(st.text(max_size=20), totals(), max_size=4), max_size=4),
    st.dictionaries(st.text(max_size=20), st.builds(FoldMark, *[st.integers(0, 2**63 - 1)] * 3), max_size=4),
)


@settings(max_examples=100, deadline=None)
@given(records)
def test_a_record_comes_back_exactly(record: PreferenceRecord) -> None:
    """Encoding and decoding keeps every bit of every sum, for any drafter id."""
    assert decode(encode(record)) == record


@settings(max_examples=100, deadline=None)
@given(records, st.data())
def test_every_flipped_bit_is_noticed(record: PreferenceRecord, data: st.DataObject) -> None:
    """CRC-32 catches any single flipped bit, and so do size and magic."""
    good = bytearray(encode(record))
    bit = data.draw(st.integers(0, 8 * len(good) - 1))
    good[bit // 8] ^= 1 << bit % 8
    with pytest.raises(CorruptRecord):
        decode(bytes(good))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_foreign_bytes_raise_only_corrupt_record(data: bytes) -> None:
    """Reading any bytes in the store raises CorruptRecord and nothing else."""
    with pytest.raises(CorruptRecord):
        decode(data)
    with pytest.raises(CorruptRecord):
        decode(encode(PreferenceRecord())[:4] + data)


@pytest.mark.parametrize(
    "bad",
    [
        DrafterTotals(float("nan"), 1.0, 10, 1),
        DrafterTotals(float("inf"), 1.0, 10, 1),
        DrafterTotals(-0.5, 1.0, 10, 1),
        DrafterTotals(0.5, -1.0, 10, 1),
        DrafterTotals(0.5, 1.0, -10, 1),
        DrafterTotals(0.5, 1.0, 10, -1),
        DrafterTotals(2.0, 1.0, 10, 1),
        DrafterTotals(0.5, 11.0, 10, 1),
        DrafterTotals(0.5, 1.0, 10.5, 1),  # type: ignore[arg-type]
        DrafterTotals(0.5, 1.0, 10, 1 << 70),
    ],
)
def test_poisoned_sums_are_refused(bad: DrafterTotals) -> None:
    """A record with a right checksum and impossible numbers does not count."""
    with pytest.raises(CorruptRecord, match="impossible"):
        decode(encode(PreferenceRecord(1, {0: {"eagle": bad}})))


@pytest.mark.parametrize("sequence", [-1, 1.5, True, "1", None, 1 << 63])
def test_an_impossible_sequence_is_refused(sequence: object) -> None:
    """The sequence decides what may be overwritten: it must be a count."""
    with pytest.raises(CorruptRecord):
        decode(encode(PreferenceRecord(sequence)))  # type: ignore[arg-type]


def test_an_oversized_record_is_refused_on_both_sides() -> None:
    """The writer says so, and the reader does not even parse."""
    many = {bucket: {f"drafter{i}": DrafterTotals() for i in range(100)} for bucket in range(1000)}
    with pytest.raises(StoreError, match="too large"):
        encode(PreferenceRecord(1, many))
    with pytest.raises(CorruptRecord, match="bytes"):
        decode(encode(PreferenceRecord()) + bytes(MAX_RECORD_BYTES))


def test_a_deep_payload_is_refused() -> None:
    """Nested brackets exhaust no stack."""
    record = encode(PreferenceRecord())
    with pytest.raises(CorruptRecord):
        decode(record[:10] + b"[" * 100_000)


def test_adding_is_independent_of_order() -> None:
    """Records of incarnations may be added in any order."""
    parts = [
        PreferenceRecord(1, {0: {"a": DrafterTotals(1.0, 2.0, 4, 1)}, 10: {"b": DrafterTotals(0.5, 3.0, 4, 1)}}),
        PreferenceRecord(5, {10: {"a": DrafterTotals(0.25, 1.0, 8, 2), "b": DrafterTotals(0.5, 1.0, 8, 2)}}),
        PreferenceRecord(2, {20: {"c": DrafterTotals(2.0, 2.0, 2, 2)}}),
    ]
    sums = [merged(order) for order in itertools.permutations(parts)]
    assert all(each == sums[0] for each in sums)
    assert sums[0].totals()["a"] == DrafterTotals(1.25, 3.0, 12, 3)


def test_a_record_is_never_changed_in_place() -> None:
    """A flush in progress writes the record as it was when it began."""
    first = PreferenceRecord().plus(0, {"a": DrafterTotals(1.0, 2.0, 4, 1)})
    second = first.plus(0, {"a": DrafterTotals(1.0, 2.0, 4, 1)})
    assert first == PreferenceRecord(1, {0: {"a": DrafterTotals(1.0, 2.0, 4, 1)}})
    assert second == PreferenceRecord(2, {0: {"a": DrafterTotals(2.0, 4.0, 8, 2)}})


def test_old_buckets_are_forgotten() -> None:
    """`since` drops buckets that start before the given time and keeps the sequence."""
    record = PreferenceRecord(7, {0: {"a": DrafterTotals(1.0)}, 100: {"a": DrafterTotals(2.0)}})
    assert record.since(100) == PreferenceRecord(7, {100: {"a": DrafterTotals(2.0)}})


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("r0.12", ("r0", 12)),
        ("a.b.3", ("a.b", 3)),
        ("a", ("a", 0)),
        ("a.b", ("a.b", 0)),
        (".3", (".3", 0)),
        ("a." + "9" * 19, ("a." + "9" * 19, 0)),  # a number that no record could hold
    ],
)
def test_an_incarnation_is_a_process_and_a_number(name: str, parts: tuple[str, int]) -> None:
    """Names that this version did not make have number 0."""
    assert process_and_number(name) == parts


def test_what_was_added_since_is_the_difference() -> None:
    """Buckets and drafters without new answers are left out; rounding never makes a sum negative."""
    earlier = PreferenceRecord(
        3, {0: {"a": DrafterTotals(0.1 + 0.2, 1.0, 4, 1)}, 10: {"a": DrafterTotals(1.0, 1.0, 4, 1)}}
    )
    later = earlier.plus(10, {"a": DrafterTotals(0.0, 2.0, 8, 1), "b": DrafterTotals(1.0, 1.0, 8, 1)})
    added = {10: {"a": DrafterTotals(0.0, 2.0, 8, 1), "b": DrafterTotals(1.0, 1.0, 8, 1)}}
    assert later.minus(earlier) == PreferenceRecord(4, added)
    assert earlier.minus(earlier) == PreferenceRecord()
    assert DrafterTotals(0.3, 0, 0, 1) - DrafterTotals(0.1 + 0.2, 0, 0, 0) == DrafterTotals(0.0, 0, 0, 1)


def test_keys_use_a_safe_alphabet_and_never_collide() -> None:
    """Separators, unicode and long names in a part neither break out of it nor make two keys equal."""
    parts = ["", "a", ":", "%", "a:b", "=", "\N{SNOWMAN}", "\ud800", "\n\0", "x" * 5000, "x" * 5001]
    names = {str(PreferenceKey(tenant, scope, "m", "greedy", "rounds", 5)) for tenant in parts for scope in parts}
    assert len(names) == len(parts) ** 2
    assert all(set(name) <= set("%-._~=:") | set(map(chr, range(48, 123))) and name.isascii() for name in names)
    assert max(map(len, names)) < 300
    assert str(PreferenceKey("acme", "", "m/8b", "greedy", "rounds", 5)) == (
        "hedgespec:preferences:1:acme::m%2F8b:greedy:rounds:5"
    )


def test_the_fewest_passes_win_and_ties_are_split() -> None:
    """One answer is worth one win in all."""
    assert answer_totals(outcome(a=10.0, b=12.5))["a"] == DrafterTotals(1.0, 10.0, 40, 1)
    assert answer_totals(outcome(a=10.0, b=12.5))["b"] == DrafterTotals(0.0, 12.5, 40, 1)
    tied = answer_totals(outcome(a=10.0, b=10.0 + 1e-12, c=11.0))
    assert [tied[name].wins for name in "abc"] == [0.5, 0.5, 0.0]


def test_a_drafter_without_competitors_wins_nothing() -> None:
    """Being the only one scored says nothing about being good."""
    assert answer_totals(outcome(a=10.0))["a"] == DrafterTotals(0.0, 10.0, 40, 1)
    assert answer_totals(outcome()) == {}


@pytest.mark.parametrize("passes", [float("nan"), float("inf"), -1.0, 41.0])
def test_impossible_passes_are_refused(passes: float) -> None:
    """More passes than tokens, or none that is a number, would poison the sums."""
    with pytest.raises(InvalidObservation, match="eagle"):
        answer_totals(outcome(eagle=passes, other=3.0))


def test_the_preference_is_the_share_of_wins() -> None:
    """(wins + alpha/N) / (total + alpha), summing to 1; uniform before the first answer."""
    assert preference_vector(PreferenceRecord(), DRAFTERS).tolist() == [1 / 3] * 3
    record = PreferenceRecord(
        1, {0: {"eagle@1": DrafterTotals(6.0, 0, 0, 8)}, 9: {"ngram@0": DrafterTotals(2.0, 0, 0, 8)}}
    )
    preference = preference_vector(record, DRAFTERS, alpha=3.0)
    np.testing.assert_allclose(preference, [7 / 11, 3 / 11, 1 / 11])
    assert preference_vector(record, ()).shape == (0,)


def test_preferences_of_drafters_that_stayed_are_kept() -> None:
    """A removed or retrained drafter (another digest) no longer counts; a new one starts with a share of alpha."""
    record = PreferenceRecord(
        1, {0: {"eagle@1": DrafterTotals(90.0), "ngram@0": DrafterTotals(6.0), "lm@7": DrafterTotals(3.0)}}
    )
    np.testing.assert_allclose(preference_vector(record, ("eagle@2", "ngram@0", "lm@7")), [1 / 30, 19 / 30, 10 / 30])


def test_two_kinds_of_traffic_prefer_the_frequent_winner() -> None:
    """Shares of answers won beat the smallest sum: one long answer does not outvote many short ones."""
    record = PreferenceRecord()
    for _ in range(9):
        record = record.plus(0, answer_totals(outcome(a=4.0, b=8.0)))
    record = record.plus(0, answer_totals(outcome(num_tokens=900, a=400.0, b=100.0)))
    assert record.totals()["a"].passes > record.totals()["b"].passes
    assert preference_vector(record, ("a", "b"))[0] > 0.8
