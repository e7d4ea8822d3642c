"""The whole draft loop of a head on static buffers, so that one CUDA graph can replay it; its tokens are read once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hedgespec.models.drafting.sampled_chains import SampledShape, sampled_tokens
from hedgespec.models.eagle3.bank import HeadBank
from hedgespec.models.eagle3.layers import Attend
from hedgespec.models.graphs.captured import Captured
from hedgespec.models.graphs.kv_lanes import KvLanes
from hedgespec.models.graphs.static_attention import StaticAttention
from hedgespec.speculative.device_sampling import neutral_shaping
from hedgespec.types import MAX_SPARSE_IDS, SPARSE_MASS, Method


@dataclass(frozen=True, slots=True)
class ChainShape:
    """Drafts of one head, by its place in the bank."""

    place: int
    batch: int
    num_tokens: int
    context: int
    method: Method


@dataclass(frozen=True, slots=True)
class ChainStart:
    """Where a chain begins. row: of its lane that its first step writes; position: of that step; state: [1, hidden], the
    newest one, from which the first token comes."""

    lane: int
    row: int
    position: int
    state: Tensor


@dataclass(frozen=True, slots=True)
class Chains:
    """tokens: [num_chains, num_tokens] ids of the target; ids, probs: of the laws that they were drawn from, [num_chains,
    num_tokens, num_ids]; without any ids for greedy chains."""

    tokens: NDArray[np.int32]
    ids: NDArray[np.int32]
    probs: NDArray[np.float32]


class ChainReplay:
    """One shape: its buffers, and what is computed from them."""

    def __init__(self, shape: ChainShape, bank: HeadBank, lanes: KvLanes, pool: object) -> None:
        self._scratch = lanes.scratch
        is_pinned = bank.device.type == "cuda"
        self._host = torch.zeros((3, shape.batch), dtype=torch.int64, pin_memory=is_pinned)
        self._inputs = torch.zeros_like(self._host, device=bank.device)  # lanes, rows, positions
        self._state = torch.zeros((shape.batch, bank.config.hidden_size), dtype=bank.dtype, device=bank.device)
        self._sampled = None if shape.method == "greedy" else _neutral(shape, bank.device)
        lane, rows, positions = self._inputs
        counts = [shape.batch if place == shape.place else 0 for place in range(bank.num_heads)]
        head = torch.full((shape.batch,), shape.place, device=bank.device)
        scale = bank.config.head_dim**-0.5

        def choose(logits: Tensor, step: int) -> list[Tensor]:
            """Tokens, and ids and probabilities of their laws, as int32 of one shape but for the last dimension."""
            if self._sampled is None:
                return [bank.draft_to_target[head, logits.argmax(dim=-1)].int()[:, None]]
            tokens, ids, probs = sampled_tokens(logits, bank.draft_to_target, head, self._sampled, step)
            return [tokens.int()[:, None], ids.int(), probs.view(torch.int32)]

        def compute() -> Tensor:
            state, chosen = self._state, choose(bank.logits(self._state, counts), 0)
            steps = [torch.cat(chosen, dim=1)]
            for step in range(shape.num_tokens - 1):
                attention = StaticAttention(lanes, lane, (rows + step)[:, None], shape.context)
                attend = _attend_with(attention, scale)
                tokens = chosen[0][:, 0].long()
                state = bank.step(bank.embed(tokens), state, positions + step, attend, counts)
                chosen = choose(bank.logits(state, counts), step + 1)
                steps.append(torch.cat(chosen, dim=1))
            return torch.stack(steps, dim=1)

        self._replay = Captured(compute, bank.device, pool)

    def run(self, starts: Sequence[ChainStart], sampled: SampledShape | None) -> Chains:
        """sampled: of these chains, on the CPU; None for greedy ones."""
        num_chains = len(starts)
        host = self._host.numpy()
        host[:] = np.array([[self._scratch], [0], [0]])
        host[:, :num_chains] = np.array([[s.lane, s.row, s.position] for s in starts]).T
        self._inputs.copy_(self._host, non_blocking=True)
        self._state[:num_chains].copy_(torch.cat([start.state for start in starts]))
        if sampled is not None and self._sampled is not None:
            self._sampled.shaping.values[:num_chains].copy_(sampled.shaping.values)
            self._sampled.noise[:num_chains].copy_(sampled.noise)
        found = self._replay()[:num_chains].cpu().numpy()  # the only wait: tokens, ids, and bits of probabilities
        num_ids = (found.shape[2] - 1) // 2
        return Chains(found[:, :, 0], found[:, :, 1 : 1 + num_ids], found[:, :, 1 + num_ids :].view(np.float32))


def _attend_with(attention: StaticAttention, scale: float) -> Attend:
    """A head's only layer over one row per chain."""

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        query, key, value = (states.transpose(0, 1).unsqueeze(0) for states in (query, key, value))
        return attention.attend(0, query, key, value, scale)[0].transpose(0, 1).flatten(1)

    return attend


def _neutral(shape: ChainShape, device: torch.device) -> SampledShape:
    is_coupled, size = shape.method == "coupled", (shape.batch, shape.num_tokens)
    noise = torch.ones(size, dtype=torch.int64) if is_coupled else torch.full(size, 0.5, dtype=torch.float64)
    shaping = neutral_shaping(shape.batch, device)
    return SampledShape(shaping, noise.to(device), is_coupled, MAX_SPARSE_IDS, SPARSE_MASS)
