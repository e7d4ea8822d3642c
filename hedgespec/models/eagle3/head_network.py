"""EAGLE-3 heads as a `DraftNetwork`.

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
from collections.abc import Generator, Sequence

import numpy as np
from torch import Tensor

from hedgespec.models.drafting.chain_draft import ChainDraft
from hedgespec.models.drafting.draft_network import Owner
from hedgespec.models.drafting.score_columns import ScoreColumns
from hedgespec.models.eagle3.exact_scores import add_deeper
from hedgespec.models.eagle3.head_bank import HeadBank
from hedgespec.models.eagle3.head_branches import HeadBranches
from hedgespec.models.eagle3.head_session import HeadSession
from hedgespec.models.memory.kv_memory import KvSlot
from hedgespec.models.session_text import SessionText
from hedgespec.types import Observation, SessionSpec

CATCH_UP_PAIRS = 512
MAX_TAIL_HOLES = 16
"""More missing features than this at the end of the text are not bridged by the head's own states."""


class HeadNetwork:
    """The heads of a bank. Sessions in a pass may belong to any of them: `Owner.index` is a head's index in the bank.

    Scores of `score_depth` exact unroll every start, `own_rounds` those that the head's own rounds reach, and `depth1`
    scores first tokens.
    """

    def __init__(self, bank: HeadBank) -> None:
        self._bank = bank

    def new_session(self, owner: Owner, text: SessionText, slot: KvSlot) -> HeadSession:
        return HeadSession(owner, text, slot)

    def num_draft_rows(self, spec: SessionSpec) -> int:
        """A chain's; branches write nothing into the slots."""
        return spec.max_draft_tokens

    def num_behind(self, session: HeadSession) -> int:
        """Holes count until something after them has come."""
        return session.newest_pair - (session.positions[-1] if session.positions else -1)

    def catch_up(self, sessions: Sequence[HeadSession]) -> None:
        self._add_true_pairs(sessions)
        self._bridge_tails(sessions)
        for session in sessions:
            kept = min(session.first_needed, session.positions[-1]) if session.positions else 0
            session.states = {p: state for p, state in session.states.items() if p >= kept}

    def complete_chains(self, drafts: Sequence[tuple[HeadSession, ChainDraft]]) -> None:
        for shortcut in self._bank.shortcuts:
            shortcut.complete(self._bank, drafts)

    def first_logits(self, sessions: Sequence[HeadSession]) -> list[Tensor | None]:
        for session in sessions:
            session.state = session.newest_state()
        started = [(session, session.state) for session in sessions if session.state is not None]
        counts = self._bank.counts([(session.owner.index, 1) for session, _ in started])
        rows = iter(self._bank.logits([state for _, state in started], counts).split(1))
        return [None if session.state is None else next(rows) for session in sessions]

    def advance(self, sessions: Sequence[HeadSession], token_ids: Sequence[int]) -> Tensor:
        hidden = [session.state for session in sessions if session.state is not None]
        blocks = [
            session.block([token], [session.newest_pair + 1 + session.num_drafted])
            for session, token in zip(sessions, token_ids, strict=True)
        ]
        states = self._bank.step(blocks, hidden)
        for session, state in zip(sessions, states.split(1), strict=True):
            session.state = state
            session.num_drafted += 1
        return self._bank.logits([states], self._bank.counts((block.head_index, 1) for block in blocks))

    def drop_drafts(self, sessions: Sequence[HeadSession]) -> None:
        for session in sessions:
            session.num_drafted = 0
            session.state = None

    def root(self, session: HeadSession, position: int) -> tuple[Tensor, HeadBranches] | None:
        """At the end of the text a bridged state serves; earlier ones must be what a draft there would have had."""
        if position == len(session.text):
            state, num_rows = session.newest_state(), session.next_row
        else:
            state, num_rows = session.states.get(position - 2), bisect_right(session.positions, position - 2)
        if state is None:
            return None
        head_index = session.owner.index
        logits = self._bank.logits([state], self._bank.counts([(head_index, 1)]))
        return logits, HeadBranches(session.slot, [num_rows], state, [position - 2], head_index)

    def extend(self, steps: Sequence[tuple[HeadBranches, list[int], list[int]]]) -> Tensor:
        self._bank.follow(steps)
        counts = self._bank.counts([(branches.head_index, len(branches)) for branches, _, _ in steps])
        return self._bank.logits([branches.states for branches, _, _ in steps], counts)

    def logits_at(self, spans: Sequence[tuple[HeadSession, int, int]]) -> list[tuple[list[int], Tensor]]:
        """From the states of true pairs and of bridged ones; a hole has none."""
        found, states = [], []
        for session, first, end in spans:
            known = session.states | session.tail
            found.append([p for p in range(first, end) if p - 2 in known])
            states += [known[p - 2] for p in found[-1]]
        sizes = [len(positions) for positions in found]
        head_indices = [session.owner.index for session, _, _ in spans]
        counts = self._bank.counts(zip(head_indices, sizes, strict=True))
        return list(zip(found, self._bank.logits(states, counts).split(sizes), strict=True))

    def score_columns(self, session: HeadSession, observation: Observation) -> ScoreColumns:
        is_by_start = session.text.spec.score_depth != "depth1"
        return ScoreColumns(session.text, session.owner.vocabulary, observation, is_by_start=is_by_start)

    def add_deeper(self, columns: Sequence[tuple[HeadSession, ScoreColumns]]) -> Generator[None]:
        yield from add_deeper(self._bank, columns)

    def _add_true_pairs(self, sessions: Sequence[HeadSession]) -> None:
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

    def _add_chunk(self, chunk: Sequence[tuple[HeadSession, list[int], Tensor]]) -> None:
        blocks = [
            session.block(session.text.ids[np.asarray(positions) + 1].tolist(), positions)
            for session, positions, _ in chunk
        ]
        states = self._bank.catch_up(blocks, [features for _, _, features in chunk])
        offset = 0
        for session, positions, _ in chunk:
            session.slot.length += len(positions)
            session.positions += positions
            needed = min(session.first_needed, positions[-1])
            for index, position in enumerate(positions):
                if position >= needed:
                    session.states[position] = states[offset + index : offset + index + 1]
            offset += len(positions)

    def _bridge_tails(self, sessions: Sequence[HeadSession]) -> None:
        """Compute the pairs at the end of the text that have no feature: one after another, from the head's own states."""
        gaps: dict[int, list[int]] = {}
        for session in sessions:
            last = session.positions[-1] if session.positions else -1
            missing = list(range(max(last + 1, session.newest_pair + 1 - MAX_TAIL_HOLES), session.newest_pair + 1))
            if missing:
                session.arrivals_at_hole = session.features.num_arrivals(session.text.spec.session_id)
                session.state = session.states.get(last, self._bank.no_state())
                gaps[id(session)] = missing
        pending = [session for session in sessions if id(session) in gaps]
        while pending:
            positions = [gaps[id(session)][len(session.tail)] for session in pending]
            ids = [int(s.text.ids[p + 1]) for s, p in zip(pending, positions, strict=True)]
            hidden = [session.state for session in pending if session.state is not None]
            blocks = [s.block([token], [p]) for s, token, p in zip(pending, ids, positions, strict=True)]
            states = self._bank.step(blocks, hidden)
            for session, position, state in zip(pending, positions, states.split(1), strict=True):
                session.tail[position] = session.state = state
            pending = [s for s in pending if len(s.tail) < len(gaps[id(s)])]
