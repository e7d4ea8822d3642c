"""The arms of a comparison on questions: plain decoding, every drafter alone, a prompt router, bandits and learners."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hedgespec.assembly.local_service import LocalService, together
from hedgespec.bench.answers import PLAIN
from hedgespec.bench.policies import LEARNED, with_learner
from hedgespec.bench.prompt_router import PromptRouter
from hedgespec.bench.questions.conversation import Arm
from hedgespec.bench.questions.tenant import RecordedPreferences
from hedgespec.config import AppArgs, LearnerConfig
from hedgespec.errors import ConfigError
from hedgespec.router.events import NoEvents
from hedgespec.router.service import GenerationService

PROMPT_ROUTER = "prompt router"


def default_arm() -> str:
    """Return the name of the arm with the default learner and objective."""
    learner = LearnerConfig()
    return f"{learner.name} {learner.objective}"


def learned_arms() -> dict[str, tuple[str, str]]:
    """Return name -> (learner or bandit, objective) of the arms that choose in every round; the default one is the last."""
    learner = LearnerConfig()
    arms = {name: (own, objective) for name, own, objective in LEARNED if name != default_arm()}
    return {**arms, default_arm(): (learner.name, learner.objective)}


def replayed_arm() -> str:
    """Return the name of the arm with the default learner in replays, which know passes and no times."""
    return f"{LearnerConfig().name} rounds"


def replayed_names(names: Sequence[str]) -> list[str]:
    """Return the arms that a replay can follow: all but those whose losses are weighed with seconds."""
    return [name for name in names if learned_arms().get(name, ("", ""))[1] != "time"]


def arm_names(drafter_ids: Sequence[str], has_router: bool) -> list[str]:
    """Return the names of all arms, in their order. Raises ConfigError for a drafter that is named like another arm."""
    names = [PLAIN, *drafter_ids, *([PROMPT_ROUTER] if has_router else []), *learned_arms()]
    if not drafter_ids:
        raise ConfigError("drafters: none are configured, so there is nothing to choose among")
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"drafters: {repeated} are names of arms of the comparison; give these drafters other ids")
    return names


def question_arms(args: AppArgs, local: LocalService, router: PromptRouter | None) -> list[Arm]:
    """Return all arms over the models of a local service. router: picks a drafter by the user's messages."""
    fixed = RecordedPreferences(args.store)
    service = _service(args, local, fixed)
    drafters = [drafter.id for drafter in args.drafters]

    def arm(name: str) -> Arm:
        if name in learned_arms():
            own = with_learner(args, *learned_arms()[name])
            preferences = RecordedPreferences(args.store)
            return Arm(name, _service(own, local, preferences), preferences, lambda turns: None)
        if name == PROMPT_ROUTER:
            assert router is not None
            return Arm(name, service, fixed, lambda turns: router.domain("\n".join(turns)))
        return Arm(name, service, fixed, _pinned("none" if name == PLAIN else name))

    return [arm(name) for name in arm_names(drafters, router is not None)]


def _service(args: AppArgs, local: LocalService, preferences: RecordedPreferences) -> GenerationService:
    return GenerationService(together(args), local.fleet, local.tokenizer, preferences, NoEvents(), local.target_id)


def _pinned(drafter: str) -> Callable[[Sequence[str]], str]:
    return lambda turns: drafter
