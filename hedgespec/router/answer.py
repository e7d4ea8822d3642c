"""An answer is everything that one request needs while it is decoded, put together from configuration and request."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hedgespec.catalogue import OBJECTIVES
from hedgespec.config import AppArgs
from hedgespec.learning.build import make_answer_learning, score_depth
from hedgespec.learning.protocol import AnswerLearning
from hedgespec.learning.step_times import AnswerTimes, StepTimes
from hedgespec.protocols import Drafter, Fleet
from hedgespec.router.decode_loop import DecodeLoop
from hedgespec.router.events import Events
from hedgespec.router.panel import DrafterPanel
from hedgespec.router.selection import FixedSelection, LearnedSelection, RandomSelection, Selection
from hedgespec.store.preferences import Preferences
from hedgespec.store.record import PreferenceKey
from hedgespec.types import DraftForm, GenerationRequest, SessionSpec

NUM_TARGET_TOP = 64
"""Ids of the target's distribution that travel for objectives that need sum min(p, q); the rest enters unbiased."""

MULTI_DRAFTS = frozenset({"iid", "distinct"})


@dataclass(frozen=True, slots=True)
class Answer:
    """One request's decode loop with its drafters and what it learns.

    learning:       None where a drafter is pinned, and without speculation
    preference_key: None when the answer teaches nothing about preferences
    """

    loop: DecodeLoop
    panel: DrafterPanel
    drafter_ids: tuple[str, ...]
    learning: AnswerLearning | None
    preference_key: PreferenceKey | None

    def weights(self) -> dict[str, float]:
        """Drafter id -> weight; empty when nothing is learned."""
        return dict(zip(self.drafter_ids, self.learning.weights.tolist(), strict=True)) if self.learning else {}

    def expected_passes(self) -> dict[str, float]:
        """Drafter id -> target passes that it alone would have needed so far; only drafters scored throughout."""
        passes = self.learning.expected_passes() if self.learning is not None else {}
        return {self.drafter_ids[index]: value for index, value in passes.items()}


class AnswerMaker:
    """Makes an answer of each request.

    target_id:     name + weight digest of the target, part of every preference key
    end_token_ids: an emitted token among these ends an answer, unless the request ignores them
    """

    def __init__(
        self,
        args: AppArgs,
        fleet: Fleet,
        preferences: Preferences,
        events: Events,
        target_id: str,
        end_token_ids: frozenset[int],
    ) -> None:
        self._args = args
        self._fleet = fleet
        self._preferences = preferences
        self._events = events
        self._target_id = target_id
        self._end_token_ids = end_token_ids
        self._step_times = StepTimes()

    async def make(self, request: GenerationRequest) -> Answer:
        """Nothing is opened yet; only the tenant's preference is read."""
        args, sampling = self._args, request.sampling
        ceiling = args.speculation.max_draft_tokens
        max_draft_tokens = ceiling if request.max_draft_tokens is None else min(ceiling, request.max_draft_tokens)
        drafter_ids = self._drafter_ids(request, max_draft_tokens)
        live: Mapping[str, Drafter] = self._fleet.drafters() if drafter_ids else {}
        times = AnswerTimes(self._step_times, [f"{d} {live[d].replica}" if d in live else d for d in drafter_ids])

        learning, key = None, None
        if request.drafter is None and drafter_ids:
            key = self._preference_key(request, max_draft_tokens)
            preference = await self._preferences.prior(key, [preference_id(live.get(d), d) for d in drafter_ids])
            learning = make_answer_learning(preference, args, drafter_ids, max_draft_tokens, times)
        learns_from_scores = learning is not None and not args.learner.is_bandit
        spec = session_spec(request, args, max_draft_tokens, learns_from_scores)
        panel = DrafterPanel([live.get(d) for d in drafter_ids], learning, self._events)
        loop = DecodeLoop(
            spec,
            self._fleet,
            panel,
            make_selection(request, args, learning, spec.noise_seed),
            learning,
            args.speculation,
            frozenset(sampling.stop_token_ids) | (frozenset() if sampling.ignore_eos else self._end_token_ids),
            self._events,
            times,
        )
        return Answer(loop, panel, drafter_ids, learning, key if learns_from_scores else None)

    def _drafter_ids(self, request: GenerationRequest, max_draft_tokens: int) -> tuple[str, ...]:
        configured = tuple(drafter.id for drafter in self._args.drafters)
        if request.drafter == "none" or max_draft_tokens == 0 or not configured:
            return ()
        return configured if request.drafter in (None, "random") else (request.drafter,)

    def _preference_key(self, request: GenerationRequest, max_draft_tokens: int) -> PreferenceKey:
        return PreferenceKey(
            tenant=request.tenant,
            scope=request.scope,
            target=self._target_id,
            method=request.sampling.method,
            objective=self._args.learner.objective,
            max_draft_tokens=max_draft_tokens,
        )


def session_spec(
    request: GenerationRequest, args: AppArgs, max_draft_tokens: int, learns_from_scores: bool
) -> SessionSpec:
    """What the replicas need to open the answer's session; a request without a seed gets random noise of its own."""
    speculation, sampling = args.speculation, request.sampling
    # the first token's score of a multi-draft is a lower bound where the target's distribution is not known
    is_multi = speculation.draft_form in MULTI_DRAFTS and sampling.method == "rejection"
    needs_top = OBJECTIVES.load(args.learner.objective).needs_acceptance_prob or is_multi
    return SessionSpec(
        session_id=request.request_id,
        prompt_ids=request.prompt_ids,
        emitted_ids=np.zeros(0, np.int32),
        sampling=sampling,
        noise_seed=sampling.seed % 2**64 if sampling.seed is not None else secrets.randbits(64),
        max_draft_tokens=max_draft_tokens,
        cache_salt=request.tenant,
        num_target_top=NUM_TARGET_TOP if learns_from_scores and needs_top else 0,
        score_depth=score_depth(args),
        draft_form=DraftForm(speculation.draft_form, speculation.branching),
        num_prompt_scores=speculation.prompt_scores if learns_from_scores else 0,
    )


def make_selection(
    request: GenerationRequest, args: AppArgs, learning: AnswerLearning | None, noise_seed: int
) -> Selection:
    """By the learner's weights, at random, or the pinned drafter."""
    if learning is not None:
        return LearnedSelection(learning, noise_seed, args.learner.follow)
    if request.drafter == "random":
        return RandomSelection(noise_seed)
    return FixedSelection(None if request.drafter in (None, "none") else 0)


def preference_id(drafter: Drafter | None, drafter_id: str) -> str:
    """The name under which preferences keep a drafter: its id and weight digest, so that retrained weights start afresh."""
    return f"{drafter_id}@{drafter.digest}" if drafter is not None and drafter.digest else drafter_id
