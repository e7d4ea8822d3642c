"""Measure speed without weights: random models of a published shape, with a given acceptance (`hedgespec bench synthetic`).

Everything is computed as with real weights. Only how many draft tokens are accepted, and the values of the scores, are drawn
at random: drafter i's token at a position is a hit with probability a_i, the same in verification and in scores.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from hedgespec.assembly.local_service import LOCAL_GROUP, LocalFleet
from hedgespec.bench.heads import random_heads
from hedgespec.bench.shapes import head_config, random_causal_lm
from hedgespec.config import AppArgs, Device, DrafterConfig, SpeculationConfig, TargetConfig
from hedgespec.engine.drafter_engine import DrafterRunner
from hedgespec.engine.engine import Engine
from hedgespec.engine.local import LocalDrafter, LocalFeatureTransport, LocalTarget
from hedgespec.engine.target_engine import TargetRunner
from hedgespec.models.drafting.network_drafter import NetworkDrafter
from hedgespec.models.drafting.score_columns import ScoreColumns, Values
from hedgespec.models.eagle3.head_bank import HeadBank
from hedgespec.models.eagle3.head_drafters import head_drafter
from hedgespec.models.eagle3.head_network import HeadNetwork
from hedgespec.models.eagle3.head_session import HeadSession
from hedgespec.models.graphs.static_drafts import use_static_drafts
from hedgespec.models.graphs.static_passes import use_static_passes
from hedgespec.models.lean.lean_heads import lean_bank, rehearse
from hedgespec.models.lean.lean_network import accelerate
from hedgespec.router.events import NoEvents
from hedgespec.router.service import GenerationService
from hedgespec.speculative.noise import Purpose, uniforms
from hedgespec.speculative.verification import VerifyContext
from hedgespec.store.memory_store import MemoryStore
from hedgespec.store.preferences import Preferences
from hedgespec.tokenization import Tokenizer
from hedgespec.types import DraftTree, Observation, Verdict

Mask = NDArray[np.bool_]

NUM_DRAFT_TOKENS = SpeculationConfig().max_draft_tokens
"""Draft tokens of a round, from the default settings."""


@dataclass(frozen=True, slots=True)
class Hits:
    """Draws which draft tokens are right.

    rates: drafter id -> the probability that a draft token is right, given that those before it are
    """

    rates: dict[str, float]

    def of(self, drafter_id: str, noise_seed: int, first: int, num_positions: int) -> Mask:
        """Return whether a drafter is right at the output indices from `first` on, [num_positions]."""
        index = list(self.rates).index(drafter_id)
        draws = uniforms(noise_seed, first + np.arange(num_positions), Purpose.SHADOW, index)
        return draws < self.rates[drafter_id]

    def decide(self, trees: Sequence[DraftTree], logits: Tensor, contexts: Sequence[VerifyContext]) -> list[Verdict]:
        """Replace `acceptance.accept`: accept the leading hits of each draft, then add the target's own token."""
        own = logits.argmax(dim=-1).tolist()
        verdicts, first_row = [], 0
        for tree, context in zip(trees, contexts, strict=True):
            num_kept = 0
            if tree.num_nodes:
                seed, first = context.noise_seed, context.first_output_index
                hits = self.of(tree.drafter_id, seed, first, tree.num_nodes)
                num_kept = tree.num_nodes if hits.all() else int(hits.argmin())
            token_ids = np.append(tree.token_ids[:num_kept], own[first_row + num_kept]).astype(np.int32)
            accepted, probs = np.arange(num_kept, dtype=np.int32), np.ones(num_kept + 1, np.float32)
            verdicts.append(Verdict(accepted, token_ids, probs))
            first_row += tree.num_nodes + 1
        return verdicts


class SyntheticColumns(ScoreColumns):
    """Scores that are computed as usual and then replaced by what was drawn. hits: [num_tokens] of the observation."""

    hits: Mask

    def add_first(self, rows: Sequence[int], logits: Tensor) -> None:
        super().add_first(rows, logits)
        self._acceptance[list(rows), 0] = self.hits[list(rows)]

    def add(self, depth: int, rows: Sequence[int], logits: Tensor) -> tuple[Values, Values | None]:
        _, acceptance_probs = super().add(depth, rows, logits)
        values = self.hits[list(rows)].astype(np.float32)
        self._acceptance[list(rows), depth - 1] = values
        return values, acceptance_probs


class SyntheticHeads(HeadNetwork):
    """Random heads, whose scores are drawn by `hits`."""

    def __init__(self, hits: Hits, bank: HeadBank) -> None:
        super().__init__(bank)
        self._hits = hits

    def score_columns(self, session: HeadSession, observation: Observation) -> ScoreColumns:
        by_start = super().score_columns(session, observation).is_by_start
        columns = SyntheticColumns(session.text, session.owner.vocabulary, observation, is_by_start=by_start)
        seed, num_tokens = session.text.spec.noise_seed, len(observation.token_ids)
        columns.hits = self._hits.of(session.owner.drafter_id, seed, observation.start, num_tokens)
        return columns


@asynccontextmanager
async def synthetic_service(
    shape: str,
    rates: Sequence[float],
    device: Device,
    max_sessions: int,
    num_tokens: int,
    *,
    use_graphs: bool,
) -> AsyncIterator[GenerationService]:
    """Open a service over a random target and one random head per rate, `head0`, `head1`, ...; greedy answers only.

    num_tokens: of prompt and answer together. use_graphs: static passes for target and heads.
    """
    hits = Hits({f"head{index}": rate for index, rate in enumerate(rates)})
    args = _args(list(hits.rates), device, max_sessions)
    spare = NUM_DRAFT_TOKENS + 1
    limit = max_sessions * (num_tokens + spare)
    model = accelerate(await asyncio.to_thread(random_causal_lm, shape, device))
    heads = random_heads(head_config(shape), len(rates), device)
    bank = lean_bank(heads, in_int8=device == "cpu")
    drafters = [
        head_drafter(name, bank, "random", max_sessions, limit, index, partial(SyntheticHeads, hits))
        for index, name in enumerate(hits.rates)
    ]
    NetworkDrafter.join(drafters)
    rehearse(bank)
    if use_graphs:
        use_static_passes(model, max_sessions, num_tokens + spare)
        use_static_drafts(bank, max_sessions, num_tokens + spare)
    transport = LocalFeatureTransport()
    runner = TargetRunner(model, transport, max_sessions, limit, decide=hits.decide)
    engine = Engine(runner, "target")
    target = LocalTarget(engine, runner.usage)
    drafting = Engine(DrafterRunner({drafter.drafter_id: drafter for drafter in drafters}), LOCAL_GROUP)
    local = {drafter.drafter_id: LocalDrafter(drafting, drafter) for drafter in drafters}
    for name, own in local.items():
        transport.register(name, own)
    for started in (engine, drafting):
        started.start()
    fleet = LocalFleet(target, local, max_sessions, args.speculation.open_deadline_s)
    preferences = Preferences(MemoryStore(), args.store)
    tokenizer = _tokenizer(model.vocab_size, min(model.max_positions, num_tokens + spare))
    service = GenerationService(args, fleet, tokenizer, preferences, NoEvents(), model.digest)
    try:
        yield service
    finally:
        await service.drain()
        await preferences.close()
        for started in (engine, drafting):
            await asyncio.to_thread(started.stop)


def expected_tokens(rate: float, num_draft_tokens: int = NUM_DRAFT_TOKENS) -> float:
    """Return the expected tokens of a round: 1 + a + a^2 + ... + a^K."""
    return float(sum(rate**depth for depth in range(num_draft_tokens + 1)))


def random_prompts(num: int, num_tokens: int, vocab_size: int) -> list[NDArray[np.int32]]:
    """Make prompts of random ids."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, vocab_size, num_tokens).astype(np.int32) for _ in range(num)]


def _args(drafter_ids: Sequence[str], device: Device, max_sessions: int) -> AppArgs:
    """Return the default settings; the models' names are never looked up."""
    drafters = tuple(
        DrafterConfig(id=name, kind="eagle3", model="random", device=device, group=LOCAL_GROUP) for name in drafter_ids
    )
    return AppArgs(target=TargetConfig(model="random", device=device, max_sessions=max_sessions), drafters=drafters)


def _tokenizer(vocab_size: int, max_model_len: int) -> Tokenizer:
    """Make a tokenizer in which no id has any text."""
    import tokenizers

    backend = tokenizers.Tokenizer(tokenizers.models.BPE(vocab={}, merges=[]))
    return Tokenizer.of(backend, eos_token_ids=(), max_model_len=max_model_len, vocab_size=vocab_size)
