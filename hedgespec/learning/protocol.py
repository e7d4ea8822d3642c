"""The learning of one answer, as the decode loop, the drafter panel and the selection see it.

The loop reports rounds, the panel reports what drafters send, the selection reads weights; when to update is decided here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hedgespec.learning.experts import Expert
from hedgespec.learning.scoring_plan import ScoreFrom
from hedgespec.types import Scores

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


class AnswerLearning(Protocol):
    """From scores and rounds to weights over the drafters of one answer.

    experts: what is chosen among, one per drafter unless draft lengths are chosen too
    expert_prior, expert_weights: [num_experts], sum to 1; weights: [num_drafters], the experts' summed per drafter
    failure: why learning has stopped, if a learner or objective has raised or gave weights that are none; the last good
        weights stay
    """

    experts: tuple[Expert, ...]
    expert_prior: Floats
    expert_weights: Floats
    failure: str | None

    @property
    def weights(self) -> Floats: ...

    def awake(self, available: Sequence[bool]) -> Mask:
        """[num_drafters]: which of the available drafters may be chosen."""
        ...

    def begin_round(self, round_index: int) -> None:
        """A round begins: learn from everything that has come in or is due by now."""
        ...

    def verified(self, num_tokens: int, round_index: int, is_last: bool) -> ScoreFrom | None:
        """The target has emitted so many more tokens. Returns, per drafter, the first output index that it is to score now,
        or None where it is not asked; None when no drafter is."""
        ...

    def played(self, drafter_index: int, num_emitted: int) -> None:
        """A round in which this drafter alone had proposed emitted so many tokens."""
        ...

    def add_scores(self, drafter_index: int, scores: Scores, *, more_coming: bool) -> None:
        """A drafter has scored verified tokens. more_coming: other drafters' scores are still on their way; when none are,
        the weights follow at once, while the target works. Raises InvalidObservation."""
        ...

    def add_prompt_scores(self, drafter_index: int, acceptance_prob: NDArray[np.float32], num_rows: int) -> None:
        """A drafter has scored the prompt (`Drafter.score_prompt`). Raises InvalidObservation."""
        ...

    def mark_absent(self, drafter_index: int) -> None:
        """A drafter died or was never there: losses no longer wait for it."""
        ...

    def finish(self) -> None:
        """The answer is over and nothing more is waited for."""
        ...

    def expected_passes(self) -> dict[int, float]:
        """Drafter index -> target passes it alone would have needed; only drafters scored throughout."""
        ...

    def pass_costs(self) -> Floats:
        """[num_drafters]: what a pass with each drafter costs under the objective, in any unit."""
        ...

    def num_conceded(self) -> int:
        """How many drafters were not scored throughout because they were hopeless."""
        ...
