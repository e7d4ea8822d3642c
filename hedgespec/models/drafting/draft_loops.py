"""How drafters with a network draft: chains token by token, wider drafts level by level, all sessions in one pass."""

from __future__ import annotations

from collections.abc import Sequence

from hedgespec.models.drafting.form_draft import DraftPlace, WideDraft, wide_draft
from hedgespec.models.drafting.network import B, DraftNetwork, S
from hedgespec.models.drafting.proposing import DraftInProgress
from hedgespec.types import DraftRequest, DraftTree


class DraftLoops(DraftNetwork[S, B]):
    """After `_catch_up`."""

    def _draft_chains(self, sessions: Sequence[S], requests: Sequence[DraftRequest]) -> list[DraftTree]:
        drafts = []
        for session, request in zip(sessions, requests, strict=True):
            num_tokens = min(request.num_draft_tokens, session.text.spec.max_draft_tokens)
            if request.num_nodes:
                num_tokens = min(num_tokens, request.num_nodes)
            place = session.text, session.owner.vocabulary, session.counts, request.round_index
            drafts.append(DraftInProgress(*place, num_tokens))
        try:
            self._run_chains(sessions, drafts)
        finally:
            self._drop_drafts(sessions)
        for session, draft in zip(sessions, drafts, strict=True):
            self._drafted(session, draft.token_ids)
        return [draft.finished(s.owner.drafter_id) for s, draft in zip(sessions, drafts, strict=True)]

    def _run_chains(self, sessions: Sequence[S], drafts: Sequence[DraftInProgress]) -> None:
        active: list[tuple[S, DraftInProgress]] = []
        for session, draft, logits in zip(sessions, drafts, self._first_logits(sessions), strict=True):
            if logits is not None and not draft.is_complete:
                draft.extend(logits)
                active.append((session, draft))
        active = [pair for pair in active if not pair[1].is_complete]
        while active:
            logits = self._advance([s for s, _ in active], [d.token_ids[-1] for _, d in active])
            for row, (_, draft) in enumerate(active):
                draft.extend(logits[row : row + 1])
            active = [pair for pair in active if not pair[1].is_complete]

    def _draft_wide(self, sessions: Sequence[S], requests: Sequence[DraftRequest]) -> list[DraftTree]:
        drafts = []
        for session, request in zip(sessions, requests, strict=True):
            text = session.text
            place = DraftPlace(text.spec, session.counts, text.num_emitted, request.round_index)
            num_tokens = min(request.num_draft_tokens, text.spec.max_draft_tokens)
            drafts.append((session, len(text), wide_draft(place, num_tokens, request.num_nodes)))
        self._grow(drafts)
        return [draft.finished(session.owner.drafter_id) for session, _, draft in drafts]

    def _grow(self, drafts: Sequence[tuple[S, int, WideDraft]]) -> None:
        """Grow drafts that begin at the given positions until they are complete, one pass per level for all of them."""
        active: list[tuple[S, B, WideDraft]] = []
        try:
            for session, position, draft in drafts:
                root = self._root(session, position)
                if root is not None:
                    draft.extend(session.owner.vocabulary.spread(root[0]))
                    active.append((session, root[1], draft))
            active = [growing for growing in active if growing[2].tokens]
            while active:
                logits = self._extend([(branches, d.parent_rows, d.tokens) for _, branches, d in active])
                parts = logits.split([len(draft.tokens) for _, _, draft in active])
                for (session, _, draft), own in zip(active, parts, strict=True):
                    draft.extend(session.owner.vocabulary.spread(own))
                active = [growing for growing in active if growing[2].tokens]
        finally:
            self._end_branches([session for session, _, _ in drafts])
