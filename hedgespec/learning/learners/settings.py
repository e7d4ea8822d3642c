"""The numbers that some learners need and that a name alone does not say."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LearnerSettings:
    """baseline_index: `safe` never loses to this expert, `fixed` always plays it; an index into the order of the prior.
    allowance: how many rounds `safe` may lose to it in all.
    num_draft_tokens: draft length that the bandits' rewards refer to, loss = 1 - emitted / (num_draft_tokens + 1).
    horizon: updates per answer that `hedge_fixed` and `fixed_share` are tuned for. num_switches: of the best drafter within
    them, for `fixed_share`. discount: per update, of `discounted` and `ucb_discounted`.
    """

    baseline_index: int = 0
    allowance: float = 3.0
    num_draft_tokens: int = 5
    horizon: int = 256
    num_switches: int = 2
    discount: float = 0.95
