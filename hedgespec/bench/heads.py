"""Measure EAGLE-3 heads: the draft loop of one, and the scores of several in one process (`hedgespec bench heads`).

A draft takes at least the time to read the layer and the output matrix once per token; a score takes at least the time to
read every head once. Weights are random: speed does not depend on their values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import nn

from hedgespec.bench.engine import copy_bandwidth, now_s
from hedgespec.config import Device
from hedgespec.models.drafting.network_drafter import NetworkDrafter
from hedgespec.models.eagle3.config import Eagle3Config
from hedgespec.models.eagle3.head import Eagle3Head
from hedgespec.models.eagle3.head_drafters import head_drafter
from hedgespec.models.graphs.static_drafts import use_static_drafts
from hedgespec.models.lean.int8_linear import can_use_int8
from hedgespec.models.lean.lean_heads import lean_bank
from hedgespec.types import DraftRequest, FeatureBlock, Observation, SamplingParams, ScoreRequest, SessionSpec

SESSION = "bench"


@dataclass(frozen=True, slots=True)
class HeadCost:
    """The cost of one kind of call.

    what:     such as `draft of 5, together` or `score of 16, apart`
    floor_ms: the time to read bytes_read at the copy's bandwidth
    """

    what: str
    median_ms: float
    floor_ms: float
    bytes_read: int

    @property
    def ratio(self) -> float:
        """Median time / floor."""
        return self.median_ms / self.floor_ms


@dataclass(frozen=True, slots=True)
class HeadsReport:
    """The heads, the machine's copy bandwidth, and the costs."""

    num_heads: int
    head_bytes: int
    copy_bytes_per_s: float
    costs: list[HeadCost]


def random_heads(config: Eagle3Config, count: int, device: Device, seed: int = 0) -> list[Eagle3Head]:
    """Make heads with random weights that share an embedding: float32 on CPU, bfloat16 on CUDA."""
    torch.manual_seed(seed)
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    with torch.device(device):
        heads = [Eagle3Head(config) for _ in range(count)]
        table = nn.Parameter(torch.randn(config.vocab_size, config.hidden_size, dtype=dtype) * 0.02, False)
    for head in heads:
        head.to(device, dtype).eval().requires_grad_(False)
        head.embed_tokens.weight = table
    return heads


@dataclass(frozen=True, slots=True)
class Arm:
    """A way to run the heads. together: as one group, whose scores share passes; else each by itself."""

    together: bool
    in_int8: bool = False


class Bench:
    """Drafters over random heads, each with one open session."""

    def __init__(self, heads: Sequence[Eagle3Head], arm: Arm, num_prompt: int, max_tokens: int) -> None:
        self._together = together = arm.together
        limit = 2 * (num_prompt + max_tokens)
        groups = [heads] if together else [[head] for head in heads]
        self.banks = [lean_bank(group, in_int8=arm.in_int8) for group in groups]
        self.drafters = [
            head_drafter(f"head{i}", self.banks[0 if together else i], "random", 1, limit, i if together else 0)
            for i in range(len(heads))
        ]
        if together:
            NetworkDrafter.join(self.drafters)
        self._config = heads[0].config
        self._rng = np.random.default_rng(0)
        self._num_prompt, self._max_tokens, self._num_observed = num_prompt, max_tokens, 0

    def open(self) -> None:
        """Open the sessions and let every drafter read the prompt."""
        ids = self._rng.integers(0, self._config.vocab_size, self._num_prompt).astype(np.int32)
        sampling = SamplingParams(temperature=0.0, max_tokens=self._max_tokens)
        for drafter in self.drafters:
            drafter.open(SessionSpec(SESSION, ids, ids[:0], sampling, 0, 5, score_depth="depth1"))
        self._push(0, self._num_prompt - 1)
        self.draft(1)
        for drafter in self.drafters[1:]:
            drafter.draft([DraftRequest(SESSION, 0, 1)])

    def draft(self, num_tokens: int) -> None:
        """Draft with the first head."""
        self.drafters[0].draft([DraftRequest(SESSION, 0, num_tokens)])

    def observe(self, num_tokens: int) -> list[ScoreRequest]:
        """Send more verified tokens to every head and return the requests for their scores."""
        ids = self._rng.integers(0, self._config.vocab_size, num_tokens).astype(np.int32)
        first = self._num_prompt + self._num_observed
        self._push(first - 1, num_tokens)
        observation = Observation(self._num_observed, ids, np.full(num_tokens, 0.5, np.float32))
        self._num_observed += num_tokens
        return [ScoreRequest(SESSION, d.observe(SESSION, observation), d.drafter_id) for d in self.drafters]

    def score(self, requests: Sequence[ScoreRequest]) -> None:
        """Compute scores as the engine does: drafters that share passes get their requests together."""
        batches = [requests] if self._together else [[request] for request in requests]
        for drafter, own in zip(self.drafters, batches, strict=False):
            for _ in drafter.score_passes(own):
                pass

    def _push(self, start: int, num_rows: int) -> None:
        rows = self._rng.normal(size=(num_rows, 3 * self._config.target_hidden_size)).astype(np.float32)
        for drafter in self.drafters:
            drafter.push(FeatureBlock(SESSION, start, rows))


def measure_heads(
    heads: Sequence[Eagle3Head],
    num_draft_tokens: int,
    num_scored: int,
    context: int,
    num_repeats: int,
    use_graphs: bool,
    advance: Callable[[], None],
) -> HeadsReport:
    """Measure drafts and scores of all arms in turn.

    num_scored: tokens of a score. use_graphs: draft in static passes. advance: called after each repeat.
    """
    device = heads[0].norm.weight.device
    max_tokens = num_scored * (num_repeats + 1) + 16
    arms = {"apart": Arm(together=False), "together": Arm(together=True)}
    if device.type == "cpu" and can_use_int8():
        arms["together in int8"] = Arm(together=True, in_int8=True)
    benches = {name: Bench(heads, arm, context, max_tokens) for name, arm in arms.items()}
    if use_graphs:
        use_static_drafts(benches["together"].banks[0], 1, context + max_tokens)
    for bench in benches.values():
        bench.open()
    bandwidth = copy_bandwidth(device)
    bytes_read: dict[str, int] = {}
    seconds: dict[str, list[float]] = {}

    def add(what: str, num_bytes: int, work: Callable[[], None]) -> None:
        bytes_read[what] = num_bytes
        seconds.setdefault(what, []).append(_timed(work, device))

    for repeat in range(num_repeats + 1):
        for name, arm in arms.items():
            bench = benches[name]
            if arm.together:
                step_bytes = num_draft_tokens * _num_bytes(heads[0], whole=False, in_int8=arm.in_int8)
                add(f"draft of {num_draft_tokens}, {name}", step_bytes, partial(bench.draft, num_draft_tokens))
            head_bytes = len(heads) * _num_bytes(heads[0], whole=True, in_int8=arm.in_int8)
            add(f"score of {num_scored}, {name}", head_bytes, partial(bench.score, bench.observe(num_scored)))
        if repeat:
            advance()
    costs = [
        HeadCost(what, 1e3 * float(np.median(taken[1:])), 1e3 * bytes_read[what] / bandwidth, bytes_read[what])
        for what, taken in seconds.items()
    ]
    return HeadsReport(len(heads), _num_bytes(heads[0], whole=True), bandwidth, costs)


def _num_bytes(head: Eagle3Head, *, whole: bool, in_int8: bool = False) -> int:
    """Return the bytes of a head without its embedding.

    whole: with the matrix that fuses features, which drafts do not need and which is never rounded to int8
    """
    total = 0
    for name, parameter in head.named_parameters():
        is_fuse = name.startswith("fc.")
        if not name.startswith("embed_tokens.") and (whole or not is_fuse):
            total += parameter.numel() * (1 if in_int8 and not is_fuse else parameter.element_size())
    return total


def _timed(work: Callable[[], None], device: torch.device) -> float:
    started = now_s(device)
    work()
    return now_s(device) - started
