"""The target's side of a round: keep the longest accepted path of every draft, then add one token.

Chains under `rejection` are decided by `chain_rejection`, chains under `greedy` and `coupled` by `matching`, all sessions
together and where the logits are. Trees and multi-drafts are walked node by node, see `tree_walk`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from hedgespec.sampling.parameter import Active, plan
from hedgespec.sampling.processing import filtered_softmax, one_hot_argmax, shape_logits, soft_distribution
from hedgespec.speculative.chain_rejection import reject_chains
from hedgespec.speculative.matching import match_chains, match_largest
from hedgespec.speculative.sparse_rows import selected_rows
from hedgespec.speculative.tree_walk import path_tokens, walk_tree
from hedgespec.speculative.verification import Emitted, VerifyContext
from hedgespec.types import DraftTree, SamplingParams, SparseRows, Verdict

NUM_PROMPT_TOP = 64
"""Ids per prompt token that are sent for prompt-time scores."""


@torch.inference_mode()
def accept(trees: Sequence[DraftTree], logits: Tensor, contexts: Sequence[VerifyContext]) -> list[Verdict]:
    """Decide one round of every session.

    trees:  one per session; each has passed `validate_tree`, since what is raised here ends the whole batch
    logits: [total_rows, vocab], the target's raw logits; per session, in order, one row after the last verified token
            and one after every node
    Raises InvalidDraft for a `rejection` token outside its own draft distribution.
    """
    if not trees:
        return []
    lengths = [tree.num_nodes + 1 for tree in trees]
    if sum(lengths) != len(logits):
        raise ValueError(f"{len(trees)} drafts need {sum(lengths)} rows of logits, got {len(logits)}")
    shaped = _shaped(trees, logits.split(lengths), contexts)
    if all(_is_greedy_chain(tree, context) for tree, context in zip(trees, contexts, strict=True)):
        return [_verdict(own) for own in match_largest(trees, shaped)]
    probs = _distributions(shaped, contexts)
    emitted = _emitted(trees, probs, contexts)
    return [_verdict(*of_session) for of_session in zip(emitted, probs, contexts, strict=True)]


def _shaped(trees: Sequence[DraftTree], logits: Sequence[Tensor], contexts: Sequence[VerifyContext]) -> list[Tensor]:
    """Apply what depends on ids and on the text, session by session."""
    return [
        shape_logits(rows, own.params, own.counts, path_tokens(tree) if plan(own.params).reads_counts else None)
        for tree, rows, own in zip(trees, logits, contexts, strict=True)
    ]


def _is_greedy_chain(tree: DraftTree, context: VerifyContext) -> bool:
    return context.params.method == "greedy" and not context.num_target_top and tree.is_chain


def _distributions(shaped: Sequence[Tensor], contexts: Sequence[VerifyContext]) -> list[Tensor]:
    """Per session [num_nodes + 1, vocab], processed in one pass per distinct filters."""
    probs = list(shaped)
    groups: dict[tuple[Active, ...], list[int]] = {}
    for session, context in enumerate(contexts):
        groups.setdefault(plan(context.params).filters, []).append(session)
    for sessions in groups.values():
        params = contexts[sessions[0]].params
        rows = torch.cat([shaped[session] for session in sessions])
        rows = one_hot_argmax(rows) if params.method == "greedy" else filtered_softmax(rows, params)
        for session, own in zip(sessions, rows.split([len(shaped[s]) for s in sessions]), strict=True):
            probs[session] = own
    return probs


def _emitted(trees: Sequence[DraftTree], probs: Sequence[Tensor], contexts: Sequence[VerifyContext]) -> list[Emitted]:
    """Decide trees one by one, chains of one kind together."""
    emitted: dict[int, Emitted] = {}
    rejected: list[int] = []
    matched: list[int] = []
    for session, (tree, own, context) in enumerate(zip(trees, probs, contexts, strict=True)):
        if not tree.is_chain:
            emitted[session] = walk_tree(tree, own, context)
        else:
            (rejected if context.params.method == "rejection" else matched).append(session)
    for sessions, decide in ((rejected, reject_chains), (matched, match_chains)):
        if sessions:
            found = decide([trees[i] for i in sessions], [probs[i] for i in sessions], [contexts[i] for i in sessions])
            emitted |= zip(sessions, found, strict=True)
    return [emitted[session] for session in range(len(trees))]


def _verdict(emitted: Emitted, probs: Tensor | None = None, context: VerifyContext | None = None) -> Verdict:
    nodes, tokens = np.array(emitted.nodes, np.int32), np.array(emitted.tokens, np.int32)
    top = _target_top(emitted.nodes, probs, context.num_target_top) if probs is not None and context else None
    return Verdict(nodes, tokens, emitted.probs.astype(np.float32), top)


def _target_top(nodes: list[int], probs: Tensor, num_ids: int) -> SparseRows | None:
    """The largest probabilities of the rows that the emitted tokens were drawn from."""
    if not num_ids:
        return None
    is_prefix = nodes == list(range(len(nodes)))
    rows = probs[: len(nodes) + 1] if is_prefix else probs[[0, *(node + 1 for node in nodes)]]
    return largest_probs(rows, num_ids)


def largest_probs(probs: Tensor, num_ids: int) -> SparseRows:
    """Keep the largest probabilities of each row, without zeros and not renormalised."""
    largest = probs.topk(min(num_ids, probs.shape[1]), dim=-1)
    values, ids = largest.values.float().cpu().numpy(), largest.indices.int().cpu().numpy()
    return selected_rows(ids, values, values > 0)


def prompt_top(logits: Tensor, params: SamplingParams) -> SparseRows:
    """Return the target's distributions of prompt tokens, for scoring drafters before the first round.

    logits: [num_rows, vocab], each row after the token before the prompt token in question. They are processed like the
    answer's, but soft at temperature 0, where the prompt's own token is rarely the argmax; what counts the answer's tokens
    is left out.
    """
    return largest_probs(soft_distribution(logits, params, None, None), NUM_PROMPT_TOP)
