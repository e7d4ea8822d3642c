"""EAGLE-3 heads as drafters.

The pair at position s joins the target's feature of position s with the id at s + 1; the state after it predicts the id
at s + 2. Between rounds features exist for every id but the last, so with N ids the newest pair is N - 2 and predicts
the first draft token. A head's KV rows are its true pairs; whatever else is computed (drafts, pairs whose feature is
missing, branches of exact scores) is written behind them and forgotten.

Holes. A pair whose feature never came is skipped when later features have come. At the end of the text, where drafting
starts, missing features are replaced by the head's own previous state, as in a draft; that work is repeated with true
features if they come before the next catch-up.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Generator, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from hedgespec.models.cpu.whole_chains import complete_chains
from hedgespec.models.drafting.neural_drafter import NeuralDrafter
from hedgespec.models.drafting.proposing import DraftInProgress
from hedgespec.models.drafting.score_columns import ScoreColumns
from hedgespec.models.drafting.session_text import SessionText
from hedgespec.models.drafting.vocabulary import DraftVocabulary
from hedgespec.models.eagle3.bank import HeadBank
from hedgespec.models.eagle3.branches import HeadBranches
from hedgespec.models.eagle3.feature_buffer import FeatureBuffer
from hedgespec.models.eagle3.passes import HeadPasses
from hedgespec.models.eagle3.session import Eagle3Session
from hedgespec.models.eagle3.unrolling import Unrolling, forget_complete_starts
from hedgespec.models.graphs.static_drafts import StaticDrafts
from hedgespec.models.memory.attention import Rows
from hedgespec.models.memory.kv_memory import KvSlot
from hedgespec.types import FeatureBlock, PromptScoreRequest

CATCH_UP_PAIRS = 512
MAX_TAIL_HOLES = 16
"""More missing features than this at the end of the text are not bridged by the head's own states."""


class Eagle3Drafter(NeuralDrafter[Eagle3Session, HeadBranches]):
    """One head of a bank. Features come by `push`; `score_depth: exact` unrolls every start, `path` those of its own
    rounds, `depth1` scores first tokens.

    Sessions in a pass may belong to any head of the bank (`join`)."""

    uses_features = True

    def __init__(
        self,
        drafter_id: str,
        bank: HeadBank,
        digest: str,
        max_sessions: int,
        max_cached_tokens: int,
        place: int = 0,
    ) -> None:
        """place: of its head in the bank."""
        vocabulary = DraftVocabulary(bank.config.vocab_size, bank.draft_to_target[place])
        super().__init__(drafter_id, digest, vocabulary, max_sessions, max_cached_tokens, place)
        self.features = FeatureBuffer(3 * bank.config.target_hidden_size, max_cached_tokens)
        self._bank = bank
        self._passes = HeadPasses(bank)
        self.static_drafts: StaticDrafts | None = None

    @staticmethod
    def join(drafters: Sequence[Eagle3Drafter]) -> None:
        """Let all drafters of one bank compute together."""
        peers = {drafter.drafter_id: drafter for drafter in drafters}
        for drafter in drafters:
            drafter._peers, drafter.batched_by = peers, drafters[0].drafter_id

    @staticmethod
    def use_static_drafts(
        drafters: Sequence[Eagle3Drafter],
        num_lanes: int,
        capacity: int,
        advance: Callable[[int], None] = lambda _: None,
    ) -> int:
        """Draft greedy chains on static buffers from now on, see `static_drafts`. drafters: all of one bank; num_lanes,
        capacity: sessions of each and their rows. The number of loops made; advance: called with it after each."""
        static = StaticDrafts(drafters[0]._bank, num_lanes * len(drafters), capacity)
        num_loops = static.capture(advance)
        for drafter in drafters:
            drafter.static_drafts = static
        return num_loops

    def rehearse(self) -> None:
        """Make the first passes of its bank as fast as later ones."""
        self._passes.rehearse()

    def push(self, block: FeatureBlock) -> None:
        self.features.push(block)

    def has_newest_features(self, session_id: str) -> bool:
        """Also True after waiting in vain once, until something arrives again."""
        session = self._sessions.get(session_id)
        if session is None or self.features.has(session_id, session.newest_pair):
            return True
        return session.arrivals_at_hole == self.features.num_arrivals(session_id)

    def close(self, session_id: str) -> None:
        super().close(session_id)
        self.features.close(session_id)

    # ---------------------------------------------------------------------------------------------------- NeuralDrafter

    def _new_session(self, text: SessionText, slot: KvSlot) -> Eagle3Session:
        self.features.open(text.spec.session_id)
        return Eagle3Session(self._owner, text, slot, self.features)

    def _num_behind(self, session: Eagle3Session) -> int:
        """Holes are skipped for good once something after them has come."""
        return session.newest_pair - (session.positions[-1] if session.positions else -1)

    def _catch_up(self, sessions: Sequence[Eagle3Session]) -> None:
        self._add_true_pairs(sessions)
        self._bridge_tails(sessions)
        for session in sessions:
            kept = min(session.first_needed, session.positions[-1]) if session.positions else 0
            session.states = {p: state for p, state in session.states.items() if p >= kept}

    def _first_logits(self, sessions: Sequence[Eagle3Session]) -> list[Tensor | None]:
        states = [session.newest_state() for session in sessions]
        for session, state in zip(sessions, states, strict=True):
            session.state = state
        known = [(session, state) for session, state in zip(sessions, states, strict=True) if state is not None]
        counts = self._passes.counts([(session.owner.place, 1) for session, _ in known])
        rows = iter(self._passes.logits_of([state for _, state in known], counts).split(1))
        return [None if state is None else next(rows) for state in states]

    def _run_chains(self, sessions: Sequence[Eagle3Session], drafts: Sequence[DraftInProgress]) -> None:
        pairs = list(zip(sessions, drafts, strict=True))
        if self.static_drafts is not None:
            self.static_drafts.complete(pairs)
        complete_chains(self._passes, pairs)
        pairs = [pair for pair in pairs if not pair[1].is_complete]
        super()._run_chains([session for session, _ in pairs], [draft for _, draft in pairs])

    def _advance(self, sessions: Sequence[Eagle3Session], token_ids: Sequence[int]) -> Tensor:
        hidden = [session.state for session in sessions if session.state is not None]
        positions = [session.newest_pair + 1 + session.num_drafted for session in sessions]
        rows = [Rows(s.slot, s.slot.length + len(s.tail) + s.num_drafted, 1) for s in sessions]
        states = self._passes.step([s.owner.place for s in sessions], list(token_ids), hidden, positions, rows)
        for session, state in zip(sessions, states.split(1), strict=True):
            session.state = state
            session.num_drafted += 1
        return self._passes.logits_of([states], self._passes.counts([(s.owner.place, 1) for s in sessions]))

    def _drop_drafts(self, sessions: Sequence[Eagle3Session]) -> None:
        for session in sessions:
            session.num_drafted = 0
            session.state = None

    def _root(self, session: Eagle3Session, position: int) -> tuple[Tensor, HeadBranches] | None:
        """At the end of the text a bridged state serves; earlier ones must be what a draft there would have had."""
        if position == len(session.text):
            state, num_rows = session.newest_state(), session.slot.length + len(session.tail)
        else:
            state, num_rows = session.states.get(position - 2), bisect_right(session.positions, position - 2)
        if state is None:
            return None
        place = session.owner.place
        logits = self._passes.logits_of([state], self._passes.counts([(place, 1)]))
        return logits, HeadBranches(session.slot, [num_rows], state, [position - 2], place)

    def _extend(self, steps: Sequence[tuple[HeadBranches, list[int], list[int]]]) -> Tensor:
        self._passes.follow(steps)
        counts = self._passes.counts([(branches.place, len(branches)) for branches, _, _ in steps])
        return self._passes.logits_of([branches.states for branches, _, _ in steps], counts)

    def _end_branches(self, sessions: Sequence[Eagle3Session]) -> None:
        """Branches write nothing into the slots."""

    def _logits_at(self, spans: Sequence[tuple[Eagle3Session, int, int]]) -> list[tuple[list[int], Tensor]]:
        """From the states of the true pairs and of bridged ones; a hole has none."""
        found, states = [], []
        for session, first, end in spans:
            known = session.states | session.tail
            found.append([p for p in range(first, end) if p - 2 in known])
            states += [known[p - 2] for p in found[-1]]
        sizes = [len(positions) for positions in found]
        places = [session.owner.place for session, _, _ in spans]
        counts = self._passes.counts(zip(places, sizes, strict=True))
        return list(zip(found, self._passes.logits_of(states, counts).split(sizes), strict=True))

    def _score_prompts(self, asked: Sequence[tuple[Eagle3Session, PromptScoreRequest]]) -> list[NDArray[np.float32]]:
        overlaps = super()._score_prompts(asked)
        for session, _ in asked:
            session.is_prompt_scored = True
        return overlaps

    def _is_by_start(self, session: Eagle3Session) -> bool:
        return session.text.spec.score_depth != "depth1"

    def _drafted(self, session: Eagle3Session, token_ids: list[int]) -> None:
        if session.path is not None:
            session.path.drafted(session.text.num_emitted, token_ids)

    def _add_deeper(self, columns: Sequence[tuple[Eagle3Session, ScoreColumns]]) -> Generator[None]:
        """Every start that matters and whose draft can reach the observation drafts the verified tokens again, as long as it
        survives.

        All starts of all sessions take each step in one pass. Logits are computed where a token is scored only.
        """
        active = [Unrolling(session, own) for session, own in columns]
        for depth in range(2, max((own.depth for _, own in columns), default=0) + 1):
            active = [unrolling for unrolling in active if unrolling.keep_for(depth)]
            if not active:
                break
            yield
            self._passes.follow([(u.branches, list(range(len(u.branches))), u.next_tokens(depth)) for u in active])
            scored = [u.scored_states(depth) for u in active]
            sizes = [len(states) for states in scored]
            counts = self._passes.counts([(u.branches.place, size) for u, size in zip(active, sizes, strict=True)])
            parts = self._passes.logits_of(scored, counts).split(sizes)
            for unrolling, logits in zip(active, parts, strict=True):
                unrolling.add(depth, logits)
        for session, own in columns:
            forget_complete_starts(session, own)

    # --------------------------------------------------------------------------------------------------------- catch up

    def _add_true_pairs(self, sessions: Sequence[Eagle3Session]) -> None:
        """One packed pass over all pairs whose features have come, in chunks when a prompt is long."""
        work = []
        for session in sessions:
            session.tail = {}
            # before features are taken, which happens only once: true pairs, bridged ones and a whole draft fit then
            session.slot.require(len(session.text) + session.text.spec.max_draft_tokens)
            positions, features = session.features.take(session.text.spec.session_id, session.newest_pair + 1)
            if positions:
                work.append((session, positions, features))
        while work:
            chunk = [(session, positions[:CATCH_UP_PAIRS], rows[:CATCH_UP_PAIRS]) for session, positions, rows in work]
            self._add_chunk(chunk)
            rest = [(s, positions[CATCH_UP_PAIRS:], rows[CATCH_UP_PAIRS:]) for s, positions, rows in work]
            work = [part for part in rest if part[1]]

    def _add_chunk(self, chunk: Sequence[tuple[Eagle3Session, list[int], Tensor]]) -> None:
        rows, ids = [], []
        for session, positions, _ in chunk:
            rows.append(Rows(session.slot, session.slot.length, len(positions)))
            ids.append(session.text.ids[np.asarray(positions) + 1])
        places = [session.owner.place for session, _, _ in chunk]
        all_positions = [p for _, positions, _ in chunk for p in positions]
        features = [features for _, _, features in chunk]
        states = self._passes.catch_up(places, np.concatenate(ids).tolist(), features, all_positions, rows)
        offset = 0
        for session, positions, _ in chunk:
            session.slot.length += len(positions)
            session.positions += positions
            needed = min(session.first_needed, positions[-1])
            for index, position in enumerate(positions):
                if position >= needed:
                    session.states[position] = states[offset + index : offset + index + 1]
            offset += len(positions)

    def _bridge_tails(self, sessions: Sequence[Eagle3Session]) -> None:
        """Pairs at the end of the text without features: the head's own previous state stands in, one after another."""
        gaps: dict[int, list[int]] = {}
        for session in sessions:
            last = session.positions[-1] if session.positions else -1
            missing = list(range(max(last + 1, session.newest_pair + 1 - MAX_TAIL_HOLES), session.newest_pair + 1))
            if missing:
                session.arrivals_at_hole = session.features.num_arrivals(session.text.spec.session_id)
                session.state = session.states.get(last, self._passes.no_state())
                gaps[id(session)] = missing
        pending = [session for session in sessions if id(session) in gaps]
        while pending:
            positions = [gaps[id(session)][len(session.tail)] for session in pending]
            rows = [Rows(s.slot, s.slot.length + len(s.tail), 1) for s in pending]
            hidden = [session.state for session in pending if session.state is not None]
            ids = [int(s.text.ids[p + 1]) for s, p in zip(pending, positions, strict=True)]
            states = self._passes.step([s.owner.place for s in pending], ids, hidden, positions, rows)
            for session, position, state in zip(pending, positions, states.split(1), strict=True):
                session.tail[position] = session.state = state
            pending = [s for s in pending if len(s.tail) < len(gaps[id(s)])]
