"""What a head keeps per session; `head_network` says what pairs, holes and tails are."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from hedgespec.models.drafting.draft_network import DraftSession, Owner
from hedgespec.models.drafting.feature_buffer import FeatureBuffer
from hedgespec.models.drafting.unscored_tokens import MAX_UNSCORED
from hedgespec.models.eagle3.own_rounds import OwnRounds
from hedgespec.models.memory.kv_memory import KvSlot
from hedgespec.models.session_text import SessionText


@dataclass(frozen=True, slots=True)
class HeadBlock:
    """Consecutive pairs of one session in a pass.

    head_index: of its head in the bank; first_row: of the slot, which the first pair writes
    token_ids, positions: of the pairs, see `HeadRows`
    """

    slot: KvSlot
    head_index: int
    first_row: int
    token_ids: list[int]
    positions: list[int]


class HeadSession(DraftSession):
    """One session of one head.

    positions: pair positions of the KV rows, rising
    states:    pair position -> the state after it, [1, hidden]; of true pairs that are still needed
    tail:      the same for pairs without a feature behind the last true one; each catch-up computes them again
    state, num_drafted: of the newest token while a chain is drafted, and how many tokens it has
    arrivals_at_hole:   `FeatureBuffer.num_arrivals` when the tail was last computed
    survivals: output index of a start whose draft may reach further than the scored text -> (the probability that it was
        accepted so far, the product of its acceptance_prob so far)
    own_rounds: which starts matter, where only those of the drafter's own rounds do
    """

    def __init__(self, owner: Owner, text: SessionText, slot: KvSlot) -> None:
        super().__init__(owner, text, slot)
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
        self.own_rounds = OwnRounds(max(spec.max_draft_tokens, 1)) if can_follow else None

    @property
    def features(self) -> FeatureBuffer:
        assert self.owner.features is not None
        return self.owner.features

    @property
    def has_newest_features(self) -> bool:
        """Whether waiting would not help: True also after a wait in vain, until something arrives again."""
        session_id = self.text.spec.session_id
        if self.features.has(session_id, self.newest_pair):
            return True
        return self.arrivals_at_hole == self.features.num_arrivals(session_id)

    @property
    def newest_pair(self) -> int:
        return len(self.text) - 2

    @property
    def next_row(self) -> int:
        """Return the row of the slot behind all true and bridged pairs and behind the chain that is being drafted."""
        return self.slot.length + len(self.tail) + self.num_drafted

    @property
    def first_needed(self) -> int:
        """Return the first pair whose state a later score can ask for: the earliest start that is still unrolled, or the end
        of the prompt as long as it may be scored."""
        if not self.is_prompt_scored and self.text.num_emitted < MAX_UNSCORED:
            return self.text.num_prompt - self.text.spec.num_prompt_scores - 2
        return self.text.num_prompt + self.scored_until - self.text.spec.max_draft_tokens - 2

    def block(self, token_ids: list[int], positions: list[int]) -> HeadBlock:
        """Put pairs behind the session's rows."""
        return HeadBlock(self.slot, self.owner.index, self.next_row, token_ids, positions)

    def newest_state(self) -> Tensor | None:
        found = self.tail.get(self.newest_pair)
        return found if found is not None else self.states.get(self.newest_pair)

    def drafted(self, token_ids: list[int]) -> None:
        if self.own_rounds is not None:
            self.own_rounds.drafted(self.text.num_emitted, token_ids)
