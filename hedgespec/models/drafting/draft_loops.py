"""The loops that draft with a network: chains token by token, wider drafts level by level, all sessions in one pass."""

from __future__ import annotations

from collections.abc import Sequence

from hedgespec.models.drafting.chain_draft import ChainDraft
from hedgespec.models.drafting.draft_network import B, DraftNetwork, S
from hedgespec.models.drafting.wide_draft import DraftStart, WideDraft, wide_draft
from hedgespec.types import DraftRequest, DraftTree


def draft_chains(
    network: DraftNetwork[S, B], sessions: Sequence[S], requests: Sequence[DraftRequest]
) -> list[DraftTree]:
    """Draft one chain per session, behind texts that the network has caught up with."""
    drafts = [(session, _chain_draft(session, request)) for session, request in zip(sessions, requests, strict=True)]
    try:
        _run_chains(network, drafts)
    finally:
        network.drop_drafts(sessions)
    for session, draft in drafts:
        session.drafted(draft.token_ids)
    return [draft.finished(session.owner.drafter_id) for session, draft in drafts]


def draft_wide(network: DraftNetwork[S, B], sessions: Sequence[S], requests: Sequence[DraftRequest]) -> list[DraftTree]:
    """Draft a tree or several chains per session, behind texts that the network has caught up with."""
    drafts = []
    for session, request in zip(sessions, requests, strict=True):
        text = session.text
        start = DraftStart(text.spec, session.counts, text.num_emitted, request.round_index)
        num_tokens = min(request.num_draft_tokens, text.spec.max_draft_tokens)
        drafts.append((session, len(text), wide_draft(start, num_tokens, request.num_nodes)))
    grow(network, drafts)
    return [draft.finished(session.owner.drafter_id) for session, _, draft in drafts]


def grow(network: DraftNetwork[S, B], drafts: Sequence[tuple[S, int, WideDraft]]) -> None:
    """Grow drafts that begin at the given positions until they are complete, one pass per level for all of them."""
    active: list[tuple[S, B, WideDraft]] = []
    for session, position, draft in drafts:
        root = network.root(session, position)
        if root is not None:
            draft.extend(session.owner.vocabulary.spread(root[0]))
            active.append((session, root[1], draft))
    active = [growing for growing in active if growing[2].tokens]
    while active:
        logits = network.extend([(branches, d.parent_rows, d.tokens) for _, branches, d in active])
        parts = logits.split([len(draft.tokens) for _, _, draft in active])
        for (session, _, draft), own in zip(active, parts, strict=True):
            draft.extend(session.owner.vocabulary.spread(own))
        active = [growing for growing in active if growing[2].tokens]


def _chain_draft(session: S, request: DraftRequest) -> ChainDraft:
    num_tokens = min(request.num_draft_tokens, session.text.spec.max_draft_tokens)
    if request.num_nodes:
        num_tokens = min(num_tokens, request.num_nodes)
    return ChainDraft(session.text, session.owner.vocabulary, session.counts, request.round_index, num_tokens)


def _run_chains(network: DraftNetwork[S, B], drafts: Sequence[tuple[S, ChainDraft]]) -> None:
    network.complete_chains(drafts)
    active = _incomplete(drafts)
    firsts = zip(active, network.first_logits([session for session, _ in active]), strict=True)
    active = []
    for (session, draft), logits in firsts:
        if logits is not None:
            draft.extend(logits)
            active.append((session, draft))
    active = _incomplete(active)
    while active:
        logits = network.advance([s for s, _ in active], [draft.token_ids[-1] for _, draft in active])
        for row, (_, draft) in enumerate(active):
            draft.extend(logits[row : row + 1])
        active = _incomplete(active)


def _incomplete(drafts: Sequence[tuple[S, ChainDraft]]) -> list[tuple[S, ChainDraft]]:
    return [(session, draft) for session, draft in drafts if not draft.is_complete]
