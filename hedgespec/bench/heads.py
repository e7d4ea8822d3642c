"""What EAGLE-3 heads cost (`hedgespec bench heads`): the draft loop of one, and scores of several in one process, beside the
time that their bytes need.

The floor of a draft is the time to read the layer and the output matrix once per token; the floor of a score is the time to
read every head once. Weights are random: speed does not depend on what they are.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from hedgespec.bench.engine import copy_bandwidth
from hedgespec.config import Device
from hedgespec.models.drafter_model import DraftRequest, ScoreRequest
from hedgespec.models.eagle3.bank import HeadBank
from hedgespec.models.eagle3.drafter import Eagle3Drafter
from hedgespec.models.eagle3.head import Eagle3Config, Eagle3Head
from hedgespec.types import FeatureBlock, Observation, SamplingParams, SessionSpec

SESSION = "bench"


@dataclass(frozen=True, slots=True)
class HeadCost:
    """what: `draft of 5`, `score of 16, apart`, ... median_ms: of one call; floor_ms: bytes_read at the copy's bandwidth."""

    what: str
    median_ms: float
    floor_ms: float
    bytes_read: int

    @property
    def ratio(self) -> float:
        return self.median_ms / self.floor_ms


@dataclass(frozen=True, slots=True)
class HeadsReport:
    num_heads: int
    head_bytes: int
    copy_bytes_per_s: float
    costs: list[HeadCost]


def random_heads(config: Eagle3Config, count: int, device: Device, seed: int = 0) -> list[Eagle3Head]:
    """float32 on CPU, bfloat16 on CUDA; they share an embedding."""
    torch.manual_seed(seed)
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    with torch.device(device):
        heads = [Eagle3Head(config) for _ in range(count)]
        table = nn.Parameter(torch.randn(config.vocab_size, config.hidden_size, dtype=dtype) * 0.02, False)
    for head in heads:
        head.to(device, dtype).eval().requires_grad_(False)
        head.embed_tokens.weight = table
    return heads


class Bench:
    """Drafters of random heads with one session each, whose prompt is read."""

    def __init__(self, heads: Sequence[Eagle3Head], *, together: bool, num_prompt: int, max_tokens: int) -> None:
        limit = 2 * (num_prompt + max_tokens)
        banks = [HeadBank(heads)] if together else [HeadBank([head]) for head in heads]
        self.drafters = [
            Eagle3Drafter(f"head{i}", banks[0] if together else banks[i], "random", 1, limit, i if together else 0)
            for i in range(len(heads))
        ]
        if together:
            Eagle3Drafter.join(self.drafters)
        self._config = heads[0].config
        self._rng = np.random.default_rng(0)
        self._num_prompt, self._max_tokens, self._num_told = num_prompt, max_tokens, 0

    def open(self) -> None:
        ids = self._rng.integers(0, self._config.vocab_size, self._num_prompt).astype(np.int32)
        sampling = SamplingParams(temperature=0.0, max_tokens=self._max_tokens)
        for drafter in self.drafters:
            drafter.open(SessionSpec(SESSION, ids, ids[:0], sampling, 0, 5, score_depth="depth1"))
        self._push(0, self._num_prompt - 1)
        self.draft(1)
        for drafter in self.drafters[1:]:
            drafter.draft([DraftRequest(SESSION, 0, 1)])

    def draft(self, num_tokens: int) -> None:
        """Of the first head."""
        self.drafters[0].draft([DraftRequest(SESSION, 0, num_tokens)])

    def tell(self, num_tokens: int) -> list[ScoreRequest]:
        """More of the text to every head; what asks for its scores."""
        ids = self._rng.integers(0, self._config.vocab_size, num_tokens).astype(np.int32)
        first = self._num_prompt + self._num_told
        self._push(first - 1, num_tokens)
        told = Observation(self._num_told, ids, np.full(num_tokens, 0.5, np.float32))
        self._num_told += num_tokens
        return [ScoreRequest(SESSION, d.observe(SESSION, told), d.drafter_id) for d in self.drafters]

    def score(self, requests: Sequence[ScoreRequest]) -> None:
        """As the engine does: who computes together is asked together."""
        by_id = {drafter.drafter_id: drafter for drafter in self.drafters}
        batches: dict[str, list[ScoreRequest]] = {}
        for request in requests:
            batches.setdefault(by_id[request.drafter_id].batched_by, []).append(request)
        for drafter_id, own in batches.items():
            for _ in by_id[drafter_id].score_passes(own):
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
    """num_scored: tokens of a score. use_graphs: draft in static passes. advance: called after each repeat."""
    device = heads[0].norm.weight.device
    max_tokens = num_scored * (num_repeats + 1) + 16
    arms = {
        name: Bench(heads, together=name == "together", num_prompt=context, max_tokens=max_tokens)
        for name in ("apart", "together")
    }
    if use_graphs:
        Eagle3Drafter.use_static_drafts(arms["together"].drafters, 1, context + max_tokens)
    for bench in arms.values():
        bench.open()
    draft, scores = f"draft of {num_draft_tokens}", {name: f"score of {num_scored}, {name}" for name in arms}
    seconds: dict[str, list[float]] = {what: [] for what in (draft, *scores.values())}
    for repeat in range(num_repeats + 1):
        seconds[draft].append(_timed(lambda: arms["together"].draft(num_draft_tokens), device))
        for name, bench in arms.items():
            requests = bench.tell(num_scored)
            seconds[scores[name]].append(_timed(lambda b=bench, r=requests: b.score(r), device))  # type: ignore[misc]
        if repeat:
            advance()
    head_bytes, step_bytes = _num_bytes(heads[0], whole=True), _num_bytes(heads[0], whole=False)
    bytes_read = {draft: num_draft_tokens * step_bytes} | dict.fromkeys(scores.values(), len(heads) * head_bytes)
    bandwidth = copy_bandwidth(device)
    costs = [
        HeadCost(what, 1e3 * float(np.median(taken[1:])), 1e3 * bytes_read[what] / bandwidth, bytes_read[what])
        for what, taken in seconds.items()
    ]
    return HeadsReport(len(heads), head_bytes, bandwidth, costs)


def _num_bytes(head: Eagle3Head, *, whole: bool) -> int:
    """Of everything but the embedding; whole: with the matrix that fuses features, which drafts do not need."""
    skipped = ("embed_tokens.",) if whole else ("embed_tokens.", "fc.")
    return sum(p.numel() * p.element_size() for name, p in head.named_parameters() if not name.startswith(skipped))


def _timed(work: Callable[[], None], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started
