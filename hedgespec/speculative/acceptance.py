"""The target's side of a round: keep the longest accepted path of every draft, then add one token.

`rejection` is speculative sampling, see `chain_rejection`. `coupled` emits the target's own keyed sample and keeps the
drafts that guessed it; `greedy` is the same with the argmax. The tokens of chains are found where the logits are, those of
all sessions together; trees and multi-drafts are walked node by node, see `tree_walk`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hedgespec.sampling.processing import largest_ids, one_hot_argmax, shape_logits, warp
from hedgespec.sampling.token_counts import TokenCounts
from hedgespec.sampling.values import Active, filters, reads_counts
from hedgespec.speculative.chain_rejection import ChainNoise, inverse_cdf, reject_chains
from hedgespec.speculative.device_sampling import draw_coupled
from hedgespec.speculative.noise import Purpose, coupled_keys, gumbel_argmax, uniform, uniforms
from hedgespec.speculative.target_top import largest_probs
from hedgespec.speculative.tree_walk import Floats, path_tokens, walk_match, walk_rejection
from hedgespec.speculative.validation import validate_tree
from hedgespec.types import DraftTree, SamplingParams, Verdict

__all__ = ["VerifyContext", "accept", "validate_tree"]


class Emitted(NamedTuple):
    """nodes: accepted ones, root first; tokens: theirs with the target's own one behind them; probs: the target's of those,
    None where they have not been read yet."""

    nodes: list[int]
    tokens: list[int]
    probs: NDArray[np.float64] | None = None


@dataclass(frozen=True, slots=True)
class VerifyContext:
    """What `accept` must know of one session beside its draft.

    first_output_index: of the first token that this round emits
    counts: prompt and emitted tokens; needed only for penalties
    num_target_top: ids of the target's distribution that are reported per emitted token
    """

    params: SamplingParams
    noise_seed: int
    round_index: int
    first_output_index: int
    counts: TokenCounts | None = None
    num_target_top: int = 0


@torch.inference_mode()
def accept(trees: Sequence[DraftTree], logits: Tensor, contexts: Sequence[VerifyContext]) -> list[Verdict]:
    """Decide one round of every session. Trees must have passed `validate_tree`, one by one, since what is raised here
    ends the whole batch.

    trees:  one per session
    logits: [total_rows, vocab], the target's raw logits; per session, in order, one row after the last verified token
            and one after every node
    Raises InvalidDraft for a `rejection` token outside its own draft distribution.
    """
    if not trees:
        return []
    lengths = [tree.num_nodes + 1 for tree in trees]
    if sum(lengths) != len(logits):
        raise ValueError(f"{len(trees)} drafts need {sum(lengths)} rows of logits, got {len(logits)}")
    if all(_is_greedy_chain(tree, context) for tree, context in zip(trees, contexts, strict=True)):
        return _greedy_chains(trees, _shaped(trees, logits, contexts, lengths))
    probs = _processed(trees, logits, contexts, lengths)
    emitted = _emitted(trees, probs, contexts)
    return _verdicts(emitted, probs, contexts)


# --------------------------------------------------------------------------------------------------- what is emitted


def _emitted(trees: Sequence[DraftTree], probs: Sequence[Tensor], contexts: Sequence[VerifyContext]) -> list[Emitted]:
    """Per session what is emitted. probs: per session [num_nodes + 1, vocab]."""
    emitted: dict[int, Emitted] = {}
    rejected: list[int] = []
    matched: list[int] = []
    for session, (tree, own, context) in enumerate(zip(trees, probs, contexts, strict=True)):
        if not tree.is_chain:
            emitted[session] = _walked(tree, own, context)
        else:
            (rejected if context.params.method == "rejection" else matched).append(session)
    for sessions, find in ((rejected, _rejected), (matched, _matched)):
        if sessions:
            found = find([trees[i] for i in sessions], [probs[i] for i in sessions], [contexts[i] for i in sessions])
            emitted |= zip(sessions, found, strict=True)
    return [emitted[session] for session in range(len(trees))]


def _rejected(trees: list[DraftTree], probs: list[Tensor], contexts: list[VerifyContext]) -> list[Emitted]:
    noises = [ChainNoise(context.noise_seed, context.first_output_index) for context in contexts]
    outcomes = reject_chains(trees, probs, noises)
    return [
        Emitted(list(range(own.num_kept)), [*tree.token_ids[: own.num_kept].tolist(), own.last], own.probs)
        for tree, own in zip(trees, outcomes, strict=True)
    ]


def _matched(trees: list[DraftTree], probs: list[Tensor], contexts: list[VerifyContext]) -> list[Emitted]:
    """Chains that follow the target's own tokens."""
    if probs[0].is_cpu:
        rows = [_own_tokens(tree, own, context) for tree, own, context in zip(trees, probs, contexts, strict=True)]
        return [Emitted(list(range(len(tokens) - 1)), tokens) for tokens in rows]
    return _matched_on_device(trees, probs, contexts)


def _matched_on_device(trees: list[DraftTree], probs: list[Tensor], contexts: list[VerifyContext]) -> list[Emitted]:
    """Own tokens of all rows, whether they are reached or not, and their probabilities: one wait."""
    rows = torch.cat(probs)
    lengths = [len(own) for own in probs]
    ids = torch.arange(rows.shape[1], device=rows.device).unsqueeze(0)
    keys = [
        coupled_keys(context.noise_seed, context.first_output_index + np.arange(length))
        for context, length in zip(contexts, lengths, strict=True)
    ]
    sampled = draw_coupled(ids, rows, torch.from_numpy(np.concatenate(keys)).to(rows.device))
    is_greedy = np.repeat([context.params.method == "greedy" for context in contexts], lengths)
    own = torch.where(torch.from_numpy(is_greedy).to(rows.device), rows.argmax(dim=-1), sampled)
    found = torch.stack((own.double(), rows.gather(1, own[:, None])[:, 0].double())).cpu().numpy()
    emitted = []
    for tree, (tokens, values) in zip(trees, _per_session(found, lengths), strict=True):
        kept = _longest_match(tree, tokens.astype(np.int64).tolist())
        emitted.append(Emitted(list(range(len(kept) - 1)), kept, values[: len(kept)]))
    return emitted


def _per_session(found: NDArray[np.float64], lengths: Sequence[int]) -> list[NDArray[np.float64]]:
    return np.split(found, np.cumsum(lengths)[:-1], axis=1)


def _is_greedy_chain(tree: DraftTree, context: VerifyContext) -> bool:
    return context.params.method == "greedy" and not context.num_target_top and tree.is_chain


def _greedy_chains(trees: Sequence[DraftTree], shaped: Sequence[Tensor]) -> list[Verdict]:
    """The common case without its distributions: every emitted token is an argmax, of probability 1."""
    best = largest_ids(torch.cat(list(shaped)) if len(shaped) > 1 else shaped[0]).tolist()
    verdicts, first = [], 0
    for tree in trees:
        tokens = _longest_match(tree, best[first : first + tree.num_nodes + 1])
        first += tree.num_nodes + 1
        accepted = np.arange(len(tokens) - 1, dtype=np.int32)
        verdicts.append(Verdict(accepted, np.array(tokens, np.int32), np.ones(len(tokens), np.float32)))
    return verdicts


def _walked(tree: DraftTree, probs: Tensor, context: VerifyContext) -> Emitted:
    """A tree or multi-draft. Siblings have accept noise of their own: the first one's is that of a chain."""
    if context.params.method == "rejection":

        def keep(depth: int, ordinal: int, prob: float) -> bool:
            index = context.first_output_index + depth
            return bool(uniforms(context.noise_seed, index, Purpose.ACCEPT, ordinal) < prob)

        def law_after(node: int) -> Floats:
            law: Floats = probs[node + 1].double().cpu().numpy()
            return law

        path, law = walk_rejection(tree, law_after, keep)
        point = uniform(context.noise_seed, context.first_output_index + len(path), Purpose.RECOVER)
        last = int(inverse_cdf(torch.from_numpy(law)[None], torch.tensor([point], dtype=torch.float64)))
    else:
        best = probs.argmax(dim=-1).tolist() if context.params.method == "greedy" else []
        ids = np.arange(probs.shape[1], dtype=np.int32)

        def own_token(node: int, num_accepted: int) -> int:
            if best:
                return int(best[node + 1])
            row = probs[node + 1].cpu().numpy()
            return gumbel_argmax(ids, row, context.noise_seed, context.first_output_index + num_accepted)

        path, last = walk_match(tree, own_token)
    return Emitted(path, [*(int(tree.token_ids[node]) for node in path), last])


def _own_tokens(tree: DraftTree, probs: Tensor, context: VerifyContext) -> list[int]:
    """The longest match on the CPU, where rows behind it cost more than they are worth."""
    if context.params.method == "greedy":
        return _longest_match(tree, probs.numpy().argmax(axis=-1).tolist())
    ids, rows = np.arange(probs.shape[1], dtype=np.int32), probs.numpy()
    tokens: list[int] = []
    for row, drafted in enumerate([*tree.token_ids.tolist(), -1]):
        tokens.append(gumbel_argmax(ids, rows[row], context.noise_seed, context.first_output_index + row))
        if tokens[-1] != drafted:
            break
    return tokens


def _longest_match(tree: DraftTree, own_tokens: Sequence[int]) -> list[int]:
    """Keep draft tokens as long as they equal the target's own token, then add that one."""
    drafted = tree.token_ids.tolist()
    num_kept = next((i for i, token in enumerate(drafted) if token != own_tokens[i]), len(drafted))
    return list(own_tokens[: num_kept + 1])


# ------------------------------------------------------------------------------------------------------ whole batches


def _processed(
    trees: Sequence[DraftTree], logits: Tensor, contexts: Sequence[VerifyContext], lengths: list[int]
) -> list[Tensor]:
    """Per session [num_nodes + 1, vocab]: logits are shaped one by one, the rest is done once per distinct filters."""
    probs = _shaped(trees, logits, contexts, lengths)
    groups: dict[tuple[Active, ...], list[int]] = {}
    for session, context in enumerate(contexts):
        groups.setdefault(filters(context.params), []).append(session)
    for sessions in groups.values():
        params = contexts[sessions[0]].params
        rows = torch.cat([probs[session] for session in sessions])
        rows = one_hot_argmax(rows) if params.method == "greedy" else warp(rows, params)
        for session, own in zip(sessions, rows.split([lengths[session] for session in sessions]), strict=True):
            probs[session] = own
    return probs


def _shaped(
    trees: Sequence[DraftTree], logits: Tensor, contexts: Sequence[VerifyContext], lengths: list[int]
) -> list[Tensor]:
    return [
        shape_logits(rows, context.params, context.counts, _ancestors(tree, context.params))
        for tree, rows, context in zip(trees, logits.split(lengths), contexts, strict=True)
    ]


def _ancestors(tree: DraftTree, params: SamplingParams) -> list[list[int]] | None:
    return path_tokens(tree) if reads_counts(params) else None


def _verdicts(emitted: Sequence[Emitted], probs: Sequence[Tensor], contexts: Sequence[VerifyContext]) -> list[Verdict]:
    unread = [session for session, own in enumerate(emitted) if own.probs is None]
    paths = [_rows_of(probs[session], emitted[session].nodes) for session in unread]
    values = dict(zip(unread, _gather(paths, [emitted[session].tokens for session in unread]), strict=True))
    verdicts = []
    for session, (own, rows, context) in enumerate(zip(emitted, probs, contexts, strict=True)):
        num_top = context.num_target_top
        top = largest_probs(_rows_of(rows, own.nodes), num_top) if num_top else None
        target_probs = values[session] if own.probs is None else own.probs
        arrays = np.array(own.nodes, np.int32), np.array(own.tokens, np.int32), target_probs.astype(np.float32)
        verdicts.append(Verdict(*arrays, top))
    return verdicts


def _rows_of(probs: Tensor, nodes: list[int]) -> Tensor:
    """The rows that the emitted tokens were drawn from: after the last verified token and after each accepted node."""
    if nodes == list(range(len(nodes))):
        return probs[: len(nodes) + 1]
    return probs[[0, *(node + 1 for node in nodes)]]


def _gather(probs: Sequence[Tensor], token_ids: Sequence[list[int]]) -> list[NDArray[np.float64]]:
    """Entry k of a session is the probability of its k-th token in its k-th row; one transfer from the device."""
    if not probs:
        return []
    own = [
        rows.gather(1, torch.tensor(tokens, device=rows.device).unsqueeze(1))
        for rows, tokens in zip(probs, token_ids, strict=True)
    ]
    values = torch.cat(own).squeeze(1).double().cpu().numpy()
    return np.split(values, np.cumsum([len(tokens) for tokens in token_ids])[:-1])
