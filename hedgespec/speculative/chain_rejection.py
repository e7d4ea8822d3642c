"""Rejection sampling of the chains of many sessions at once, on whatever device the target computes.

Leviathan, Kalman, Matias 2023, algorithm 1, and Chen et al. 2023: keep x with probability min(1, p(x)/q(x)), at the
first rejection draw from max(p - q, 0). With tokens that really came from q the output follows p, whatever q is. The
decisions are `acceptance_probs`, `residual` and `inverse_cdf`, which the tests enumerate; `reject_chains` adds the noise
and waits for the device once.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hedgespec.speculative.noise import Purpose, uniform
from hedgespec.speculative.validation import draft_distributions
from hedgespec.speculative.verification import Emitted, VerifyContext
from hedgespec.types import DraftTree

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

NEVER = 2.0
"""Accept noise of a token that is not there: above every probability."""


def reject_chains(
    trees: Sequence[DraftTree], probs: Sequence[Tensor], contexts: Sequence[VerifyContext]
) -> list[Emitted]:
    """Decide every chain. probs: per session [num_nodes + 1, vocab], the target's distributions after each row of its block.

    Raises InvalidDraft for a token outside its own draft distribution: accepting it would change what the output follows.
    """
    device = probs[0].device
    rows = probs[0] if len(probs) == 1 else torch.cat(list(probs))
    index, tokens, own, ids, draft_probs, keep_noise, points = (
        torch.from_numpy(array).to(device, non_blocking=True) for array in (*_drafts(trees), *_noise(trees, contexts))
    )
    num_tokens = tokens.shape[1]
    target_probs = rows[index[:, :num_tokens], tokens].double()
    kept = (keep_noise < acceptance_probs(target_probs, own)).long().cumprod(dim=1).sum(dim=1, keepdim=True)
    last_rows = rows[index.gather(1, kept).squeeze(1)]
    at = kept.unsqueeze(2).expand(-1, 1, ids.shape[2])
    rest = residual(last_rows, ids.gather(1, at).squeeze(1), draft_probs.gather(1, at).squeeze(1))
    last = inverse_cdf(rest, points.gather(1, kept).squeeze(1)).unsqueeze(1)
    found = torch.cat((kept.double(), last.double(), last_rows.gather(1, last).double(), target_probs), dim=1)
    found_rows = found.cpu().numpy()  # the only wait
    return [_emitted(tree, own_found) for tree, own_found in zip(trees, found_rows, strict=True)]


def acceptance_probs(target_probs: Tensor, draft_probs: Tensor) -> Tensor:
    """min(1, p(x) / q(x)) of draft tokens x. Both of one shape; draft_probs are positive."""
    return (target_probs / draft_probs).clamp(max=1.0)


def residual(target_probs: Tensor, draft_ids: Tensor, draft_probs: Tensor) -> Tensor:
    """The distribution of the token after a rejection: max(p - q, 0), renormalised; p itself where p <= q everywhere.

    target_probs: [rows, vocab]; draft_ids, draft_probs: [rows, num_ids] of q, without mass for a bonus token (p - 0 = p).
    Returns [rows, vocab] float64. The second case has probability zero but for rounding: p <= q everywhere means p = q,
    and then nothing is rejected.
    """
    target = target_probs.double()
    rest = target.scatter_add(1, draft_ids, -draft_probs).clamp(min=0.0)
    rest = torch.where(rest.sum(dim=-1, keepdim=True) > 0, rest, target)
    return rest / rest.sum(dim=-1, keepdim=True)


def inverse_cdf(probs: Tensor, points: Tensor) -> Tensor:
    """Draw one id from each row, [rows]: probs [rows, vocab] float64; points: [rows] in (0, 1). Ids without mass are never
    drawn."""
    cumulative = probs.cumsum(dim=-1)
    total = cumulative[:, -1:].contiguous()
    chosen = torch.searchsorted(cumulative, points.unsqueeze(-1) * total, right=True)
    last_with_mass = torch.searchsorted(cumulative, total)  # rounding must not step past it
    return torch.minimum(chosen, last_with_mass).squeeze(-1)


def _emitted(tree: DraftTree, found: Floats) -> Emitted:
    """found: number of kept tokens, token after them, its probability, then those of the draft's tokens."""
    num_kept = int(found[0])
    tokens = [*tree.token_ids[:num_kept].tolist(), int(found[1])]
    return Emitted(list(range(num_kept)), tokens, np.append(found[3 : 3 + num_kept], found[2]))


def _drafts(trees: Sequence[DraftTree]) -> tuple[Ints, Ints, Floats, Ints, Floats]:
    """Put the chains side by side, filled up to the longest one.

    Returns rows [num_sessions, most + 1], of the target's distributions after each token; tokens and the drafter's own
    probabilities of them [num_sessions, most]; ids and probabilities of the draft distributions
    [num_sessions, most + 1, num_ids], without mass behind the last token.
    """
    num_sessions, most = len(trees), max(tree.num_nodes for tree in trees)
    distributions = [draft_distributions(tree) if tree.num_nodes else None for tree in trees]
    num_ids = max((own.ids.shape[1] for own in distributions if own is not None), default=1)
    rows, tokens = np.zeros((num_sessions, most + 1), np.int64), np.zeros((num_sessions, most), np.int64)
    own_probs = np.ones((num_sessions, most))
    ids = np.zeros((num_sessions, most + 1, num_ids), np.int64)
    probs = np.zeros(ids.shape)
    first = 0
    for session, (tree, own) in enumerate(zip(trees, distributions, strict=True)):
        num_nodes = tree.num_nodes
        rows[session] = first + np.minimum(np.arange(most + 1), num_nodes)
        first += num_nodes + 1
        if own is not None:
            tokens[session, :num_nodes] = tree.token_ids
            own_probs[session, :num_nodes] = own.own
            ids[session, :num_nodes, : own.ids.shape[1]] = own.ids
            probs[session, :num_nodes, : own.ids.shape[1]] = own.probs
    return rows, tokens, own_probs, ids, probs


def _noise(trees: Sequence[DraftTree], contexts: Sequence[VerifyContext]) -> tuple[Floats, Floats]:
    """Return the accept noise [num_sessions, most] and the recovered or bonus tokens' [num_sessions, most + 1]."""
    num_sessions, most = len(trees), max(tree.num_nodes for tree in trees)
    accept, recover = np.full((num_sessions, most), NEVER), np.full((num_sessions, most + 1), 0.5)
    for session, (tree, own) in enumerate(zip(trees, contexts, strict=True)):
        for row in range(tree.num_nodes + 1):
            index = own.first_output_index + row
            if row < tree.num_nodes:
                accept[session, row] = uniform(own.noise_seed, index, Purpose.ACCEPT)
            recover[session, row] = uniform(own.noise_seed, index, Purpose.RECOVER)
    return accept, recover
