"""An objective says what a loss means: it turns closed positions of an answer into loss vectors for the learner.

To add one, subclass `Objective` in a file of its own and name the class in `hedgespec.catalogue.OBJECTIVES`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from hedgespec.catalogue import OBJECTIVES
from hedgespec.errors import ConfigError
from hedgespec.learning.estimators import Floats, Mask
from hedgespec.learning.experts import Expert, one_per_drafter
from hedgespec.types import CHAIN, DraftForm

Losses = list[tuple[Floats, Mask]]
"""Loss vectors in order of position: losses [num_experts] in [0, 1], and who has one [num_experts]."""


@dataclass(frozen=True, slots=True)
class Pool:
    """What an objective knows of an answer's drafters.

    draft_lengths: what may be drafted instead of max_draft_tokens; used by objectives that choose lengths
    seconds: the measured seconds of a round with each expert, [num_experts]; used by objectives that weigh time
    """

    num_drafters: int
    max_draft_tokens: int
    draft_lengths: tuple[int, ...] = ()
    draft_form: DraftForm = CHAIN
    seconds: Callable[[Sequence[Expert]], Floats] | None = None


class Objective(ABC):
    """One answer's loss vectors under one objective.

    needs_acceptance_prob: drafters must score sum_x min(p, q) as well, for which the target's top ids travel
    own_rounds_suffice:    of chains of one length only the starts that a drafter's own rounds reach are read (`ScoreDepth`)
    works_with_trees:      draft forms other than chains are scored only where a round of theirs would start; an objective
                           that compares drafters on the same positions cannot use that
    chooses_lengths:       its experts are drafters with a draft length, and no speculation
    """

    needs_acceptance_prob: ClassVar[bool] = False
    own_rounds_suffice: ClassVar[bool] = False
    works_with_trees: ClassVar[bool] = False
    chooses_lengths: ClassVar[bool] = False

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.experts = one_per_drafter(pool.num_drafters, pool.max_draft_tokens)

    @classmethod
    def check(cls, name: str, draft_form: str, draft_lengths: Sequence[int], merge_drafters: int = 1) -> None:
        """Raise ConfigError, saying what to change, for settings under which this objective cannot be computed.

        name: the objective's; draft_form, draft_lengths, merge_drafters: see `config.SpeculationConfig`
        """
        if draft_form != "chain" and not cls.works_with_trees:
            raise ConfigError(
                f"learner.objective {name} needs the score of every position, and drafts of form {draft_form} are scored "
                f"only where a round would start. Use {_built_in('works_with_trees')}, or chains."
            )
        if draft_lengths and not cls.chooses_lengths:
            raise ConfigError(f"speculation.draft_lengths needs learner.objective {_built_in('chooses_lengths')}.")
        if draft_lengths and draft_form != "chain":
            raise ConfigError(
                f"speculation.draft_lengths is for chains: drafts of form {draft_form} are scored at full length only."
            )
        if merge_drafters > 1 and cls.chooses_lengths:
            raise ConfigError(
                f"learner.objective {name} chooses one drafter; with speculation.merge_drafters {merge_drafters} set "
                "learner.objective to rounds."
            )

    def pass_costs(self) -> Floats:
        """[num_drafters]: what a pass with each drafter costs, in any unit; preferences compare whole answers by it."""
        return np.ones(self.pool.num_drafters)

    @abstractmethod
    def close(self, round_starts: Floats, acceptance: Floats, acceptance_prob: Floats, awake: Mask) -> Losses:
        """The loss vectors that these further positions complete, in order.

        round_starts: [num_positions, num_drafters], u of the position after each of them (design 5)
        acceptance, acceptance_prob: [num_drafters, num_positions, depth]; awake: [num_drafters, num_positions]
        """


def _built_in(attribute: str) -> str:
    """The built-in objectives with this class attribute, for error messages."""
    return " or ".join(name for name in OBJECTIVES.built_in if getattr(OBJECTIVES.load(name), attribute))


def loss_vectors(losses: Floats, awake: Mask) -> Losses:
    """Both [num_positions, num_experts]; positions without any score are no evidence and are left out."""
    return [(losses[k], awake[k]) for k in range(len(losses)) if awake[k].any()]


def bounded_vectors(losses: Floats, awake: Mask) -> Losses:
    """Vectors of losses whose estimates may leave [0, 1]; both [num_positions, num_drafters].

    An estimate above its range makes a negative loss. Learners look at differences only, so such a vector is lifted
    as a whole, which keeps it unbiased; what is then above 1 is clipped.
    """
    lowest = np.where(awake, losses, 0.0).min(axis=1, keepdims=True)
    return loss_vectors(np.clip(losses - np.minimum(lowest, 0.0), 0.0, 1.0), awake)
