"""All randomness is counter-based: each number is a pure function of (noise seed, purpose, round, output index, counter).

Nothing is drawn in sequence, so target and drafters, replicas on other machines and a session that was moved after a
failure all see the same noise. The hash is splitmix64's finaliser (Stafford's variant 13) applied once per input, each
time to the previous result plus a multiple of the golden ratio: with only the last input running it is the splitmix64
generator itself.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray

_GOLDEN, _MIX_1, _MIX_2 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_MASK = (1 << 64) - 1


class Purpose(IntEnum):
    """What a number is for; numbers of different purposes are independent. The values are part of the contract between
    replicas: never renumber.

    COUPLED: Gumbel noise per token that target and drafters share
    DRAFT:   the draft token of `rejection`; depends on the round, a position drafted again needs fresh noise
    ACCEPT:  keep or reject a draft token; an output index is put to this test at most once per sibling, which the counter
             numbers
    RECOVER: the recovered or bonus token of a round
    SELECT:  which drafter the router draws; keyed by the round instead of an output index
    SHADOW:  what a drafter draws to score a multi-draft; independent of all drafts, since realised tokens depend on those
    DRAFTER: the key of one drafter's draws, see `drafter_seed`
    """

    COUPLED = 1
    DRAFT = 2
    ACCEPT = 3
    RECOVER = 4
    SELECT = 5
    SHADOW = 8
    DRAFTER = 9


def uniforms(
    seed: int, output_index: ArrayLike, purpose: Purpose, counters: ArrayLike, *, round_index: int = 0
) -> NDArray[np.float64]:
    """Return uniform numbers in the open interval (0, 1): odd multiples of 2^-53.

    seed: any integer, taken modulo 2^64. output_index and counters broadcast against each other and give the shape.
    """
    indices, counters = np.asarray(output_index, np.int64), np.asarray(counters, np.int64)
    key = np.array([_key(seed, purpose, round_index)], np.uint64)
    key = _absorb_array(key, np.atleast_1d(indices).astype(np.uint64))
    bits = _absorb_array(key, np.atleast_1d(counters).astype(np.uint64)) >> np.uint64(11)
    values = (bits | np.uint64(1)).astype(np.float64) * 2.0**-53  # | 1: neither 0 nor, after rounding, 1
    return values.reshape(np.broadcast_shapes(indices.shape, counters.shape))


def uniform(seed: int, output_index: int, purpose: Purpose, *, round_index: int = 0) -> float:
    """Return the number of counter 0, for decisions that are taken once per output index (and round)."""
    bits = _absorb(_absorb(_key(seed, purpose, round_index), output_index), 0) >> 11
    return (bits | 1) * 2.0**-53


def drafter_seed(seed: int, drafter_index: int) -> int:
    """Return the key of one drafter's draws under `rejection`.

    Drafts that are merged into one tree must be drawn independently: with a common key a second drafter would repeat the
    first one's choice, and after its rejection the sibling's distribution would not be the one that travels with it.
    """
    return _key(seed, Purpose.DRAFTER, drafter_index)


def gumbels(seed: int, output_index: ArrayLike, token_ids: ArrayLike) -> NDArray[np.float32]:
    """Return standard Gumbel noise of token ids at an output index, the same for the target and every drafter.

    The logarithms are taken in float64 and rounded once, so that they agree between machines.
    """
    return _gumbel(uniforms(seed, output_index, Purpose.COUPLED, token_ids))


def coupled_keys(seed: int, output_indices: ArrayLike) -> NDArray[np.int64]:
    """Return the state of the hash before the token id, of which `device_sampling` makes the Gumbel noise on a device.

    Same shape as output_indices.
    """
    key = np.array([_key(seed, Purpose.COUPLED, 0)], np.uint64)
    indices = np.asarray(output_indices, np.int64)
    return _absorb_array(key, np.atleast_1d(indices).astype(np.uint64)).astype(np.int64).reshape(indices.shape)


def gumbel_argmax(ids: NDArray[np.int32], probs: NDArray[np.floating], seed: int, output_index: int) -> int:
    """Return the id with the largest log prob + Gumbel noise, the lowest one on ties: a keyed sample of `probs`.

    ids: [num_ids] distinct; probs: [num_ids], not necessarily normalised, some of them positive.

    Logarithms are only taken of candidates that can win. With E = -log u, the winner has the smallest E / prob; since
    1 - u <= E, an id with (1 - u) / prob above some id's E / prob has lost.
    """
    positive = probs > 0
    ids, probs = ids[positive], probs[positive].astype(np.float64)
    noise = uniforms(seed, output_index, Purpose.COUPLED, ids)
    least = (1.0 - noise) / probs
    leader = int(np.argmin(least))
    bound = -np.log(noise[leader]) / probs[leader]
    rivals = least <= bound * (1 + 1e-4)  # the margin covers the rounding of the noise to float32
    ids, scores = ids[rivals], np.log(probs[rivals]) + _gumbel(noise[rivals])
    return int(ids[scores == scores.max()].min())


def _gumbel(noise: NDArray[np.float64]) -> NDArray[np.float32]:
    return (-np.log(-np.log(noise))).astype(np.float32)


def _key(seed: int, purpose: Purpose, round_index: int) -> int:
    return _absorb(_absorb(seed & _MASK, int(purpose)), round_index)


def _absorb(state: int, word: int) -> int:
    """Mix one more input into the state; all arithmetic modulo 2^64."""
    x = (state + (word + 1) * _GOLDEN) & _MASK
    x = ((x ^ (x >> 30)) * _MIX_1) & _MASK
    x = ((x ^ (x >> 27)) * _MIX_2) & _MASK
    return x ^ (x >> 31)


def _absorb_array(state: NDArray[np.uint64], word: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The same for arrays with at least one dimension, whose overflow wraps silently."""
    x = state + (word + np.uint64(1)) * np.uint64(_GOLDEN)
    x ^= x >> np.uint64(30)
    x *= np.uint64(_MIX_1)
    x ^= x >> np.uint64(27)
    x *= np.uint64(_MIX_2)
    x ^= x >> np.uint64(31)
    return x
