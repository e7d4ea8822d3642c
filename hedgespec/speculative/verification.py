"""The two ends of accepting a draft: what is known of the session, and what the round emits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hedgespec.sampling.token_counts import TokenCounts
from hedgespec.types import SamplingParams


@dataclass(frozen=True, slots=True)
class VerifyContext:
    """A session at the start of a round.

    noise_seed: key of its noise, see `noise`
    first_output_index: of the first token that this round emits
    counts: prompt and emitted tokens, see `token_counts`
    num_target_top: ids of the target's distribution that are reported per emitted token
    """

    params: SamplingParams
    noise_seed: int
    first_output_index: int
    counts: TokenCounts | None = None
    num_target_top: int = 0


class Emitted(NamedTuple):
    """The outcome of a round.

    nodes:  accepted nodes of the draft, root first
    tokens: their tokens, then the one that the target adds
    probs:  [num_tokens], the target's probability of each token
    """

    nodes: list[int]
    tokens: list[int]
    probs: NDArray[np.floating]
