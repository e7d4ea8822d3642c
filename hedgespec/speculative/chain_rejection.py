"""Rejection sampling of the chains of many sessions at once, on whatever device the target computes.

Leviathan et al. 2023 / Chen et al. 2023: keep x with probability min(1, p(x)/q(x)), at the first rejection draw from
max(p - q, 0). With tokens that really came from q the output follows p, whatever q is. The decisions are `acceptance_probs`,
`residual` and `inverse_cdf`, which the tests enumerate; `reject_chains` adds the noise, and waits for the device once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hedgespec.speculative.noise import Purpose, uniform
from hedgespec.speculative.validation import node_laws
from hedgespec.types import DraftTree

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

NEVER = 2.0
"""Accept noise of a token that is not there: above every probability."""


@dataclass(frozen=True, slots=True)
class ChainNoise:
    """What a session's noise is a function of, see `noise`. first_output_index: of the first token that the round emits."""

    seed: int
    first_output_index: int


@dataclass(frozen=True, slots=True)
class ChainOutcome:
    """num_kept: accepted draft tokens; last: the token after them; probs: [num_kept + 1], the target's, of each token."""

    num_kept: int
    last: int
    probs: Floats


def reject_chains(
    trees: Sequence[DraftTree], probs: Sequence[Tensor], noises: Sequence[ChainNoise]
) -> list[ChainOutcome]:
    """probs: per session [num_nodes + 1, vocab], the target's processed distributions after each row of its block.

    Raises InvalidDraft for a token outside its own draft distribution: accepting it would change the law of the output.
    """
    drafts, noise = _drafts(trees), _noise(trees, noises)
    device = probs[0].device
    rows = probs[0] if len(probs) == 1 else torch.cat(list(probs))
    index, tokens, own, keep_noise, points, ids, laws = (
        torch.from_numpy(array).to(device, non_blocking=True)
        for array in (
            drafts.rows, drafts.tokens, drafts.own_probs, noise.accept, noise.recover, drafts.law_ids, drafts.law_probs
        )
    )  # fmt: skip
    num_tokens = tokens.shape[1]
    target_probs = rows[index[:, :num_tokens], tokens].double()
    kept = (keep_noise < acceptance_probs(target_probs, own)).long().cumprod(dim=1).sum(dim=1, keepdim=True)
    last_rows = rows[index.gather(1, kept).squeeze(1)]
    at = kept.unsqueeze(2).expand(-1, 1, ids.shape[2])
    rest = residual(last_rows, ids.gather(1, at).squeeze(1), laws.gather(1, at).squeeze(1))
    last = inverse_cdf(rest, points.gather(1, kept).squeeze(1)).unsqueeze(1)
    found = torch.cat((kept.double(), last.double(), last_rows.gather(1, last).double(), target_probs), dim=1)
    return [_outcome(own_found) for own_found in found.cpu().numpy()]  # the only wait


def acceptance_probs(target_probs: Tensor, draft_probs: Tensor) -> Tensor:
    """min(1, p(x) / q(x)) of draft tokens x. Both of one shape; draft_probs are positive."""
    return (target_probs / draft_probs).clamp(max=1.0)


def residual(target_probs: Tensor, law_ids: Tensor, law_probs: Tensor) -> Tensor:
    """The law of the token after a rejection: max(p - q, 0), renormalised; p itself where p <= q everywhere.

    target_probs: [rows, vocab]; law_ids, law_probs: [rows, num_ids] of q, without mass for a bonus token (p - 0 = p).
    Returns [rows, vocab] float64. The second case has probability zero but for rounding: p <= q everywhere means p = q,
    and then nothing is rejected.
    """
    target = target_probs.double()
    rest = target.scatter_add(1, law_ids, -law_probs).clamp(min=0.0)
    rest = torch.where(rest.sum(dim=-1, keepdim=True) > 0, rest, target)
    return rest / rest.sum(dim=-1, keepdim=True)


def inverse_cdf(laws: Tensor, points: Tensor) -> Tensor:
    """A sample of each law, [rows]: laws [rows, vocab] float64; points: [rows] in (0, 1). Ids without mass are never
    chosen."""
    cumulative = laws.cumsum(dim=-1)
    total = cumulative[:, -1:].contiguous()
    chosen = torch.searchsorted(cumulative, points.unsqueeze(-1) * total, right=True)
    last_with_mass = torch.searchsorted(cumulative, total)  # rounding must not step past it
    return torch.minimum(chosen, last_with_mass).squeeze(-1)


# ------------------------------------------------------------------------------------------- drafts and noise as arrays


@dataclass(frozen=True, slots=True)
class _Drafts:
    """rows: [num_sessions, most + 1], of the distributions after each token; tokens, own_probs (q of its own token):
    [num_sessions, most]; law_ids, law_probs: [num_sessions, most + 1, num_ids], without mass behind the last token."""

    rows: Ints
    tokens: Ints
    own_probs: Floats
    law_ids: Ints
    law_probs: Floats


@dataclass(frozen=True, slots=True)
class _Noise:
    """accept: [num_sessions, most]; recover: [num_sessions, most + 1]"""

    accept: Floats
    recover: Floats


def _drafts(trees: Sequence[DraftTree]) -> _Drafts:
    num_sessions, most = len(trees), max(tree.num_nodes for tree in trees)
    laws = [node_laws(tree) if tree.num_nodes else None for tree in trees]
    law_shape = num_sessions, most + 1, max((own.ids.shape[1] for own in laws if own is not None), default=1)
    drafts = _Drafts(
        np.zeros((num_sessions, most + 1), np.int64),
        np.zeros((num_sessions, most), np.int64),
        np.ones((num_sessions, most)),
        np.zeros(law_shape, np.int64),
        np.zeros(law_shape),
    )
    first = 0
    for session, (tree, own) in enumerate(zip(trees, laws, strict=True)):
        num_nodes = tree.num_nodes
        drafts.rows[session] = first + np.minimum(np.arange(most + 1), num_nodes)
        first += num_nodes + 1
        if own is not None:
            drafts.tokens[session, :num_nodes] = tree.token_ids
            drafts.own_probs[session, :num_nodes] = own.own
            drafts.law_ids[session, :num_nodes, : own.ids.shape[1]] = own.ids
            drafts.law_probs[session, :num_nodes, : own.ids.shape[1]] = own.probs
    return drafts


def _noise(trees: Sequence[DraftTree], noises: Sequence[ChainNoise]) -> _Noise:
    num_sessions, most = len(trees), max(tree.num_nodes for tree in trees)
    noise = _Noise(np.full((num_sessions, most), NEVER), np.full((num_sessions, most + 1), 0.5))
    for session, (tree, own) in enumerate(zip(trees, noises, strict=True)):
        for row in range(tree.num_nodes + 1):
            index = own.first_output_index + row
            if row < tree.num_nodes:
                noise.accept[session, row] = uniform(own.seed, index, Purpose.ACCEPT)
            noise.recover[session, row] = uniform(own.seed, index, Purpose.RECOVER)
    return noise


def _outcome(found: Floats) -> ChainOutcome:
    num_kept = int(found[0])
    return ChainOutcome(num_kept, int(found[1]), np.append(found[3 : 3 + num_kept], found[2]))
