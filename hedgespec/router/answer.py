"""Everything one request needs while it is decoded, put together from the configuration and the request."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hedgespec.config import AppArgs
from hedgespec.learning.answer_bandit import AnswerBandit
from hedgespec.learning.answer_learner import AnswerLearner, Learning
from hedgespec.learning.feedback import make_feedback
from hedgespec.learning.learners.registry import make_learner
from hedgespec.learning.learners.settings import LearnerSettings
from hedgespec.learning.objectives import Expert
from hedgespec.learning.prior import mixed_prior
from hedgespec.learning.scoring_plan import ScoringPlan
from hedgespec.learning.sleepers import Sleepers
from hedgespec.learning.step_times import StepTimes
from hedgespec.protocols import Drafter, Fleet
from hedgespec.router.decode_loop import DecodeLoop
from hedgespec.router.events import Events
from hedgespec.router.panel import DrafterPanel
from hedgespec.router.selection import FixedSelection, LearnedSelection, RandomSelection, Selection
from hedgespec.store.record import PreferenceKey
from hedgespec.types import DraftForm, GenerationRequest, ScoreDepth, SessionSpec

NUM_TARGET_TOP = 64
"""Ids of the target's distribution that travel for objectives that need sum min(p, q); the rest enters unbiased."""

NEEDS_TARGET_TOP = frozenset({"acceptance", "length", "length_product"})
MULTI_DRAFTS = frozenset({"iid", "distinct"})


@dataclass(frozen=True, slots=True)
class Answer:
    """preference_key: None when the answer teaches nothing about preferences."""

    loop: DecodeLoop
    panel: DrafterPanel
    drafter_ids: tuple[str, ...]
    learner: Learning | None
    preference_key: PreferenceKey | None


def session_spec(request: GenerationRequest, args: AppArgs, max_draft_tokens: int, learns: bool) -> SessionSpec:
    """A request without a seed gets random noise of its own."""
    speculation, sampling = args.speculation, request.sampling
    # the first token's score of a multi-draft is a lower bound where the target's law is not known
    is_multi = speculation.draft_form in MULTI_DRAFTS and sampling.method == "rejection"
    needs_top = args.learner.objective in NEEDS_TARGET_TOP or is_multi
    return SessionSpec(
        session_id=request.request_id,
        prompt_ids=request.prompt_ids,
        emitted_ids=np.zeros(0, np.int32),
        sampling=sampling,
        noise_seed=sampling.seed % 2**64 if sampling.seed is not None else secrets.randbits(64),
        max_draft_tokens=max_draft_tokens,
        cache_salt=request.tenant,
        num_target_top=NUM_TARGET_TOP if learns and needs_top else 0,
        score_depth=score_depth(args),
        draft_form=DraftForm(speculation.draft_form, speculation.branching),
        num_prompt_scores=speculation.prompt_scores if learns else 0,
    )


def score_depth(args: AppArgs) -> ScoreDepth:
    """The other objectives look at every start; `rounds` only at those of each drafter's own rounds."""
    speculation = args.speculation
    is_by_rounds = args.learner.objective == "rounds" and speculation.draft_form == "chain"
    return "own_rounds" if speculation.score_depth == "exact" and is_by_rounds else speculation.score_depth


def make_learning(
    preference: NDArray[np.float64],
    args: AppArgs,
    drafter_ids: Sequence[str],
    max_draft_tokens: int,
    step_times: StepTimes,
) -> Learning:
    """preference: [num_drafters], the tenant's; the learner starts from it, mixed with the uniform one."""
    config, num_drafters = args.speculation, len(drafter_ids)
    prior = mixed_prior(preference, args.learner.prior_mixing)
    if args.learner.is_bandit:
        settings = LearnerSettings(num_draft_tokens=config.max_draft_tokens)
        return AnswerBandit(make_learner(args.learner.name, settings), prior, config.max_draft_tokens)
    experts, seconds = None, None
    if args.learner.objective == "throughput":
        experts = throughput_experts(num_drafters, config.draft_lengths, max_draft_tokens)
        seconds = _seconds_of(step_times, experts, drafter_ids)
    feedback = make_feedback(
        args.learner.objective,
        num_drafters,
        max_draft_tokens,
        config.score_timeout_rounds,
        experts,
        seconds,
        DraftForm(config.draft_form, config.branching),
    )
    return AnswerLearner(
        make_learner(args.learner.name, LearnerSettings(baseline_index=_baseline(args, drafter_ids, experts))),
        prior,
        feedback,
        experts=experts,
        plan=ScoringPlan(num_drafters, config.score_dense_rounds, config.score_every, args.group_numbers(drafter_ids)),
        sleepers=Sleepers(num_drafters, config.sleep_weight, config.wake_every_rounds, config.score_dense_rounds),
        prior_mixing=args.learner.prior_mixing,
        prompt_rounds=config.warm_rounds if config.prompt_scores else 0,
    )


def throughput_experts(num_drafters: int, lengths: Sequence[int], max_draft_tokens: int) -> tuple[Expert, ...]:
    """Every drafter with every draft length, and no speculation. lengths: none means max_draft_tokens alone; a request
    that allows less shortens them."""
    allowed = sorted({min(length, max_draft_tokens) for length in lengths or (max_draft_tokens,)})
    pairs = tuple(Expert(index, length) for index in range(num_drafters) for length in allowed)
    return (*pairs, Expert(None, 0))


def make_selection(request: GenerationRequest, args: AppArgs, learner: Learning | None, noise_seed: int) -> Selection:
    if learner is not None:
        return LearnedSelection(learner, noise_seed, args.learner.follow)
    if request.drafter == "random":
        return RandomSelection(noise_seed)
    return FixedSelection(None if request.drafter in (None, "none") else 0)


def make_answer(
    request: GenerationRequest,
    args: AppArgs,
    fleet: Fleet,
    drafters: Sequence[Drafter | None],
    drafter_ids: tuple[str, ...],
    max_draft_tokens: int,
    learner: Learning | None,
    preference_key: PreferenceKey | None,
    end_token_ids: frozenset[int],
    events: Events,
    step_times: StepTimes,
) -> Answer:
    """drafters: one per drafter id, None for one that is down."""
    learns = isinstance(learner, AnswerLearner)
    spec = session_spec(request, args, max_draft_tokens, learns)
    panel = DrafterPanel(drafters, learner, events)
    loop = DecodeLoop(
        spec,
        fleet,
        panel,
        make_selection(request, args, learner, spec.noise_seed),
        learner,
        args.speculation,
        end_token_ids,
        events,
        step_times if args.learner.objective == "throughput" else None,
    )
    return Answer(loop, panel, drafter_ids, learner, preference_key if learns else None)


def _baseline(args: AppArgs, drafter_ids: Sequence[str], experts: Sequence[Expert] | None) -> int:
    """The expert that learner `safe` must not lose to: the configured drafter, with its longest drafts."""
    index = drafter_ids.index(args.learner.baseline) if args.learner.baseline is not None else 0
    if experts is None:
        return index
    return max(i for i, expert in enumerate(experts) if expert.drafter_index == index)


def _seconds_of(
    step_times: StepTimes, experts: Sequence[Expert], drafter_ids: Sequence[str]
) -> Callable[[], NDArray[np.float64]]:
    return lambda: step_times.seconds(experts, drafter_ids)
