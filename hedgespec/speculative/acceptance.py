"""The target's side of a round: keep the longest accepted path of every draft, then add one token.

`rejection` is Leviathan et al. 2023 / Chen et al. 2023: keep x with probability min(1, p(x)/q(x)), at the first
rejection draw from max(p - q, 0). With tokens that really came from q the output follows p, whatever q is. `coupled`
emits the target's own keyed sample and keeps the drafts that guessed it; `greedy` is the same with the argmax. The
decisions are the functions `acceptance_probs` and `residual`, which the tests enumerate; `accept` adds the noise.

Chains of all sessions are decided together; everything else is walked node by node, see `tree_walk`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hedgespec.speculative.noise import Purpose, gumbel_argmax, uniform, uniforms
from hedgespec.speculative.processing import TokenCounts, largest_ids, one_hot_argmax, shape_logits, warp
from hedgespec.speculative.target_top import largest_probs
from hedgespec.speculative.tree_walk import Floats, path_tokens, walk_match, walk_rejection
from hedgespec.speculative.validation import SparseLaw, node_law, token_probs, validate_tree
from hedgespec.types import DraftTree, SamplingParams, Verdict

__all__ = ["VerifyContext", "accept", "acceptance_probs", "residual", "validate_tree"]

Emitted = tuple[list[int], list[int]]
"""Accepted nodes, root first, and their tokens with the target's own one behind them."""


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


def acceptance_probs(target_probs: NDArray[np.float64], draft_probs: NDArray[np.float64]) -> NDArray[np.float64]:
    """min(1, p(x) / q(x)) per draft token x. Both: [num_draft_tokens]; draft_probs are positive."""
    return np.minimum(target_probs / draft_probs, 1.0)


def residual(target_probs: Tensor, draft_laws: Sequence[SparseLaw]) -> Tensor:
    """The law of the token after a rejection: max(p - q, 0), renormalised; p itself where p <= q everywhere.

    target_probs: [rows, vocab]; draft_laws: per row ids and probabilities of q, empty for a bonus token (p - 0 = p).
    Returns [rows, vocab] float64. The second case has probability zero but for rounding: p <= q everywhere means p = q,
    and then nothing is rejected.
    """
    device, target = target_probs.device, target_probs.double()
    rows = np.repeat(np.arange(len(draft_laws)), [len(ids) for ids, _ in draft_laws])
    ids, values = (np.concatenate(parts) for parts in zip(*draft_laws, strict=True))
    rest = target.clone()
    rest[torch.from_numpy(rows).to(device), torch.from_numpy(ids).to(device)] -= torch.from_numpy(values).to(device)
    rest = rest.clamp(min=0.0)
    rest = torch.where(rest.sum(dim=-1, keepdim=True) > 0, rest, target)
    return rest / rest.sum(dim=-1, keepdim=True)


# --------------------------------------------------------------------------------------------------- what is emitted


def _emitted(trees: Sequence[DraftTree], probs: Sequence[Tensor], contexts: Sequence[VerifyContext]) -> list[Emitted]:
    """Per session what is emitted. probs: per session [num_nodes + 1, vocab]."""
    emitted: list[Emitted] = [([], [])] * len(trees)
    rejected_chains = []
    for session, (tree, own, context) in enumerate(zip(trees, probs, contexts, strict=True)):
        if not tree.is_chain:
            emitted[session] = _walked(tree, own, context)
        elif context.params.method == "rejection":
            rejected_chains.append(session)
        else:
            emitted[session] = _of_chain(_longest_match(tree, _own_tokens(own, context)))
    if rejected_chains:
        tokens = _reject(
            [trees[session] for session in rejected_chains],
            [probs[session] for session in rejected_chains],
            [contexts[session] for session in rejected_chains],
        )
        for session, own_tokens in zip(rejected_chains, tokens, strict=True):
            emitted[session] = _of_chain(own_tokens)
    return emitted


def _is_greedy_chain(tree: DraftTree, context: VerifyContext) -> bool:
    return context.params.method == "greedy" and not context.num_target_top and tree.is_chain


def _greedy_chains(trees: Sequence[DraftTree], shaped: Sequence[Tensor]) -> list[Verdict]:
    """The common case without its distributions: every emitted token is an argmax, of probability 1."""
    best = iter(largest_ids(torch.cat(list(shaped)) if len(shaped) > 1 else shaped[0]).tolist())
    verdicts = []
    for tree in trees:
        tokens = _longest_match(tree, iter([next(best) for _ in range(tree.num_nodes + 1)]))
        accepted = np.arange(len(tokens) - 1, dtype=np.int32)
        verdicts.append(Verdict(accepted, np.array(tokens, np.int32), np.ones(len(tokens), np.float32)))
    return verdicts


def _of_chain(tokens: list[int]) -> Emitted:
    return list(range(len(tokens) - 1)), tokens


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
        (last,) = _inverse_cdf(torch.from_numpy(law)[None], [point])
    else:
        best = probs.argmax(dim=-1).tolist() if context.params.method == "greedy" else []
        ids = np.arange(probs.shape[1], dtype=np.int32)

        def own_token(node: int, num_accepted: int) -> int:
            if best:
                return int(best[node + 1])
            row = probs[node + 1].cpu().numpy()
            return gumbel_argmax(ids, row, context.noise_seed, context.first_output_index + num_accepted)

        path, last = walk_match(tree, own_token)
    return path, [*(int(tree.token_ids[node]) for node in path), last]


def _own_tokens(probs: Tensor, context: VerifyContext) -> Iterator[int]:
    """What the target itself says after each row; lazily, since rows behind a mismatch are not needed."""
    if context.params.method == "greedy":
        yield from probs.argmax(dim=-1).tolist()
        return
    ids = np.arange(probs.shape[1], dtype=np.int32)
    for row, row_probs in enumerate(probs.cpu().numpy()):
        yield gumbel_argmax(ids, row_probs, context.noise_seed, context.first_output_index + row)


def _longest_match(tree: DraftTree, own_tokens: Iterator[int]) -> list[int]:
    """Keep draft tokens as long as they equal the target's own token, then add that one."""
    tokens = [next(own_tokens)]
    for drafted in tree.token_ids.tolist():
        if drafted != tokens[-1]:
            break
        tokens.append(next(own_tokens))
    return tokens


def _reject(trees: list[DraftTree], probs: list[Tensor], contexts: list[VerifyContext]) -> list[list[int]]:
    """Rejection sampling of several sessions: one transfer of probabilities from the device, one of tokens."""
    target_probs = _gather(probs, [tree.token_ids for tree in trees])
    num_kept = [_num_kept(tree, own, context) for tree, own, context in zip(trees, target_probs, contexts, strict=True)]
    nothing = (np.zeros(0, np.int64), np.zeros(0))
    laws = [
        node_law(tree, kept) if kept < tree.num_nodes else nothing for tree, kept in zip(trees, num_kept, strict=True)
    ]
    points = [
        uniform(context.noise_seed, context.first_output_index + kept, Purpose.RECOVER)
        for context, kept in zip(contexts, num_kept, strict=True)
    ]
    last_rows = torch.stack([own[kept] for own, kept in zip(probs, num_kept, strict=True)])
    last_tokens = _inverse_cdf(residual(last_rows, laws), points)
    return [
        [*tree.token_ids[:kept].tolist(), last] for tree, kept, last in zip(trees, num_kept, last_tokens, strict=True)
    ]


def _num_kept(tree: DraftTree, target_probs: NDArray[np.float64], context: VerifyContext) -> int:
    if tree.num_nodes == 0:
        return 0
    indices = range(context.first_output_index, context.first_output_index + tree.num_nodes)
    noise = np.array([uniform(context.noise_seed, index, Purpose.ACCEPT) for index in indices])
    is_kept = noise < acceptance_probs(target_probs, token_probs(tree))
    return tree.num_nodes if is_kept.all() else int(is_kept.argmin())


def _inverse_cdf(laws: Tensor, points: list[float]) -> list[int]:
    """laws: [rows, vocab] float64; points: [rows] in (0, 1). Ids without mass are never chosen."""
    cumulative = laws.cumsum(dim=-1)
    total = cumulative[:, -1:].contiguous()
    at = torch.tensor(points, dtype=torch.float64, device=laws.device).unsqueeze(-1) * total
    chosen = torch.searchsorted(cumulative, at, right=True)
    last_with_mass = torch.searchsorted(cumulative, total)  # rounding of `at` must not step past it
    return torch.minimum(chosen, last_with_mass).squeeze(-1).tolist()


# ------------------------------------------------------------------------------------------------------ whole batches


def _processed(
    trees: Sequence[DraftTree], logits: Tensor, contexts: Sequence[VerifyContext], lengths: list[int]
) -> list[Tensor]:
    """Per session [num_nodes + 1, vocab]: bias and penalties one by one, then one pass per distinct warping."""
    shaped = _shaped(trees, logits, contexts, lengths)

    def warping(session: int) -> tuple[float, int, float]:
        params = contexts[session].params
        return params.temperature, params.top_k, params.top_p

    probs = shaped
    for _, group in groupby(sorted(range(len(trees)), key=warping), key=warping):
        sessions = list(group)
        params = contexts[sessions[0]].params
        rows = torch.cat([shaped[session] for session in sessions])
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
    return path_tokens(tree) if params.has_penalties else None


def _verdicts(emitted: Sequence[Emitted], probs: Sequence[Tensor], contexts: Sequence[VerifyContext]) -> list[Verdict]:
    token_ids = [np.array(tokens, np.int32) for _, tokens in emitted]
    paths = [_rows_of(own, nodes) for own, (nodes, _) in zip(probs, emitted, strict=True)]
    verdicts = []
    for (nodes, _), tokens, values, rows, context in zip(
        emitted, token_ids, _gather(paths, token_ids), paths, contexts, strict=True
    ):
        top = largest_probs(rows, context.num_target_top) if context.num_target_top else None
        verdicts.append(Verdict(np.array(nodes, np.int32), tokens, values.astype(np.float32), top))
    return verdicts


def _rows_of(probs: Tensor, nodes: list[int]) -> Tensor:
    """The rows that the emitted tokens were drawn from: after the last verified token and after each accepted node."""
    if nodes == list(range(len(nodes))):
        return probs[: len(nodes) + 1]
    return probs[[0, *(node + 1 for node in nodes)]]


def _gather(probs: Sequence[Tensor], token_ids: Sequence[NDArray[np.int32]]) -> list[NDArray[np.float64]]:
    """Entry k of a session is the probability of its k-th token in its k-th row; one transfer from the device."""
    own = [
        rows[: len(tokens)].gather(1, torch.from_numpy(tokens.astype(np.int64)).to(rows.device).unsqueeze(1))
        for rows, tokens in zip(probs, token_ids, strict=True)
    ]
    values = torch.cat(own).squeeze(1).double().cpu().numpy()
    return np.split(values, np.cumsum([len(tokens) for tokens in token_ids])[:-1])
