"""The learner that a configuration names."""

from __future__ import annotations

from typing import Any

from hedgespec.config import LearnerName
from hedgespec.errors import ConfigError
from hedgespec.learners.hedge import Hedge
from hedgespec.learners.learner import Learner
from hedgespec.learners.normalhedge import NormalHedge

_LEARNERS: dict[LearnerName, type[Learner[Any]]] = {"normalhedge": NormalHedge, "hedge": Hedge}

LEARNER_NAMES: tuple[LearnerName, ...] = tuple(_LEARNERS)


def make_learner(name: LearnerName) -> Learner[Any]:
    """Raises ConfigError for a name that is not registered."""
    if name not in _LEARNERS:
        raise ConfigError(f"No learner named {name!r}. Known: {sorted(_LEARNERS)}.")
    return _LEARNERS[name]()
