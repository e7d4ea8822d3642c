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
from collections.abc import Generator, Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hedgespec.models.attention import PackedAttention, Rows
from hedgespec.models.branches import BranchedAttention, HeadBranches
from hedgespec.models.draft_vocabulary import DraftVocabulary
from hedgespec.models.drafter_model import PromptScoreRequest
from hedgespec.models.eagle3_layers import Attend
from hedgespec.models.eagle3_session import Eagle3Session
from hedgespec.models.eagle3_unrolling import Unrolling, forget_complete_starts
from hedgespec.models.feature_buffer import FeatureBuffer
from hedgespec.models.head_bank import Counts, HeadBank
from hedgespec.models.kv_memory import KvSlot
from hedgespec.models.neural_drafter import NeuralDrafter
from hedgespec.models.score_columns import ScoreColumns
from hedgespec.models.session_text import SessionText
from hedgespec.types import FeatureBlock

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
        self._scale = bank.config.head_dim**-0.5

    @staticmethod
    def join(drafters: Sequence[Eagle3Drafter]) -> None:
        """Let all drafters of one bank compute together."""
        peers = {drafter.drafter_id: drafter for drafter in drafters}
        for drafter in drafters:
            drafter._peers, drafter.batched_by = peers, drafters[0].drafter_id

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
        counts = self._counts([(session.owner.place, 1) for session, _ in known])
        rows = iter(self._logits_of([state for _, state in known], counts).split(1))
        return [None if state is None else next(rows) for state in states]

    def _advance(self, sessions: Sequence[Eagle3Session], token_ids: Sequence[int]) -> Tensor:
        hidden = torch.cat([session.state for session in sessions if session.state is not None])
        positions = [session.newest_pair + 1 + session.num_drafted for session in sessions]
        rows = [Rows(s.slot, s.slot.length + len(s.tail) + s.num_drafted, 1) for s in sessions]
        states = self._step(sessions, token_ids, hidden, positions, rows)
        for session, state in zip(sessions, states.split(1), strict=True):
            session.state = state
            session.num_drafted += 1
        return self._bank.logits(states, self._counts([(session.owner.place, 1) for session in sessions]))

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
        attention, place = BranchedAttention(session.slot, [num_rows], self._scale), session.owner.place
        logits = self._bank.logits(state, self._counts([(place, 1)]))
        return logits, HeadBranches(attention, state, [position - 2], place)

    def _extend(self, steps: Sequence[tuple[HeadBranches, list[int], list[int]]]) -> Tensor:
        self._follow(steps)
        counts = self._counts([(branches.place, len(branches)) for branches, _, _ in steps])
        return self._logits_of([branches.states for branches, _, _ in steps], counts)

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
        counts = self._counts([(session.owner.place, size) for (session, _, _), size in zip(spans, sizes, strict=True)])
        return list(zip(found, self._logits_of(states, counts).split(sizes), strict=True))

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
        active = [Unrolling(session, own, self._scale) for session, own in columns]
        for depth in range(2, max((own.depth for _, own in columns), default=0) + 1):
            active = [unrolling for unrolling in active if unrolling.keep_for(depth)]
            if not active:
                break
            yield
            self._follow([(u.branches, list(range(len(u.branches))), u.next_tokens(depth)) for u in active])
            scored = [u.scored_states(depth) for u in active]
            sizes = [len(states) for states in scored]
            counts = self._counts([(u.branches.place, size) for u, size in zip(active, sizes, strict=True)])
            parts = self._logits_of(scored, counts).split(sizes)
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
        features = torch.cat([features for _, _, features in chunk]).to(self._bank.device, self._bank.dtype)
        sessions = [session for session, _, _ in chunk]
        counts = self._counts([(s.owner.place, row.num_rows) for s, row in zip(sessions, rows, strict=True)])
        all_positions = [p for _, positions, _ in chunk for p in positions]
        hidden = self._bank.fuse(features, counts)
        states = self._step(sessions, np.concatenate(ids).tolist(), hidden, all_positions, rows)
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
                session.state = session.states.get(last, self._no_state())
                gaps[id(session)] = missing
        pending = [session for session in sessions if id(session) in gaps]
        while pending:
            positions = [gaps[id(session)][len(session.tail)] for session in pending]
            rows = [Rows(s.slot, s.slot.length + len(s.tail), 1) for s in pending]
            hidden = torch.cat([session.state for session in pending if session.state is not None])
            ids = [int(s.text.ids[p + 1]) for s, p in zip(pending, positions, strict=True)]
            states = self._step(pending, ids, hidden, positions, rows)
            for session, position, state in zip(pending, positions, states.split(1), strict=True):
                session.tail[position] = session.state = state
            pending = [s for s in pending if len(s.tail) < len(gaps[id(s)])]

    # ------------------------------------------------------------------------------------------------------ the network

    def _step(
        self,
        sessions: Sequence[Eagle3Session],
        ids: Sequence[int],
        hidden: Tensor,
        positions: Sequence[int],
        rows: Sequence[Rows],
    ) -> Tensor:
        """rows: one block per session."""
        packed = PackedAttention(rows, self._bank.dtype, self._bank.device)
        counts = self._counts([(s.owner.place, own.num_rows) for s, own in zip(sessions, rows, strict=True)])

        def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            query, key, value = (states.transpose(0, 1).unsqueeze(0) for states in (query, key, value))
            return packed.attend(0, query, key, value, self._scale)[0].transpose(0, 1).flatten(1)

        return self._call(ids, hidden, positions, attend, counts)

    def _follow(self, steps: Sequence[tuple[HeadBranches, list[int], list[int]]]) -> None:
        """One pass: every step's branches part as its rows say, and each takes one more token."""
        for branches, rows, _ in steps:
            branches.keep(rows)
            branches.positions = [position + 1 for position in branches.positions]
        sizes = [len(branches) for branches, _, _ in steps]

        def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            parts = zip(steps, *(states.split(sizes) for states in (query, key, value)), strict=True)
            return torch.cat([branches.attention.attend(q, k, v) for (branches, _, _), q, k, v in parts])

        ids = [token for _, _, tokens in steps for token in tokens]
        positions = [position for branches, _, _ in steps for position in branches.positions]
        counts = self._counts([(branches.place, size) for (branches, _, _), size in zip(steps, sizes, strict=True)])
        states = self._call(ids, torch.cat([branches.states for branches, _, _ in steps]), positions, attend, counts)
        for (branches, _, _), own in zip(steps, states.split(sizes), strict=True):
            branches.states = own

    def _call(
        self, ids: Sequence[int], hidden: Tensor, positions: Sequence[int], attend: Attend, counts: Counts
    ) -> Tensor:
        bank = self._bank
        bank.require_positions(max(positions) + 1)
        embedded = bank.embed(torch.tensor(ids, device=bank.device))
        return bank.step(embedded, hidden, torch.tensor(positions, device=bank.device), attend, counts)

    def _logits_of(self, states: Sequence[Tensor], counts: Counts) -> Tensor:
        """states: [num_rows, hidden] each, counts of all their rows."""
        if sum(counts):
            return self._bank.logits(torch.cat(list(states)), counts)
        return torch.zeros((0, self._bank.config.draft_vocab_size), dtype=self._bank.dtype, device=self._bank.device)

    def _counts(self, parts: Iterable[tuple[int, int]]) -> list[int]:
        """(place of a head, number of rows), the places rising -> rows per head."""
        counts = [0] * self._bank.num_heads
        for place, num_rows in parts:
            counts[place] += num_rows
        return counts

    def _no_state(self) -> Tensor:
        return torch.zeros((1, self._bank.config.hidden_size), dtype=self._bank.dtype, device=self._bank.device)
