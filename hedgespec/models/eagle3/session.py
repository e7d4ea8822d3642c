"""What an EAGLE-3 drafter keeps per session; `drafter` says what pairs, holes and tails are."""

from __future__ import annotations

from torch import Tensor

from hedgespec.models.drafting.network import DraftSession, Owner
from hedgespec.models.drafting.session_text import SessionText
from hedgespec.models.drafting.unscored import MAX_UNSCORED
from hedgespec.models.eagle3.feature_buffer import FeatureBuffer
from hedgespec.models.eagle3.path import RoundPath
from hedgespec.models.memory.kv_memory import KvSlot


class Eagle3Session(DraftSession):
    """positions: of the KV rows, rising. states: pair position -> [1, hidden] after it, true ones still needed.

    features: where the target's features of all sessions of the drafter arrive
    tail:  the same for pairs without a feature behind the last true one; computed again by each catch-up
    state: of the newest token while a draft runs
    survivals: output index of a start whose draft may reach further than the scored text -> (the probability that it was
        accepted so far, the product of its acceptance_prob so far)
    path: which starts matter, where only those of the drafter's own rounds do
    is_prompt_scored: the states at the end of the prompt are not needed any more
    """

    def __init__(self, owner: Owner, text: SessionText, slot: KvSlot, features: FeatureBuffer) -> None:
        super().__init__(owner, text, slot)
        self.features = features
        self.positions: list[int] = []
        self.states: dict[int, Tensor] = {}
        self.tail: dict[int, Tensor] = {}
        self.num_drafted = 0
        self.state: Tensor | None = None
        self.arrivals_at_hole = -1
        self.survivals: dict[int, tuple[float, float]] = {}
        spec = text.spec
        can_follow = spec.score_depth == "own_rounds" and spec.sampling.method != "rejection"
        can_follow = can_follow and not self.is_wide and spec.num_target_top == 0
        self.path = RoundPath(max(spec.max_draft_tokens, 1)) if can_follow else None
        self.is_prompt_scored = spec.num_prompt_scores == 0

    @property
    def newest_pair(self) -> int:
        return len(self.text) - 2

    @property
    def first_needed(self) -> int:
        """The first pair whose state a later score can ask for: the earliest start that is still unrolled, or the end of
        the prompt as long as it may be scored."""
        if not self.is_prompt_scored and self.text.num_emitted < MAX_UNSCORED:
            return self.text.num_prompt - self.text.spec.num_prompt_scores - 2
        return self.text.num_prompt + self.scored_until - self.text.spec.max_draft_tokens - 2

    def newest_state(self) -> Tensor | None:
        found = self.tail.get(self.newest_pair)
        return found if found is not None else self.states.get(self.newest_pair)
