"""A multi-draft's first tokens are scored under `rejection`, given only what was emitted (design 5). NumPy only.

Recursive rejection keeps an unnormalised residual P, at first the target's distribution p. Child k, drawn from q_k, takes
min(P, |P| q_k) out of it, |P| being the probability that all children before it were rejected. What the children have
taken at the realised token x is the probability that x is emitted as a draft token, hence a = 1 - P(x) / p(x). For iid
children the residuals do not depend on what was drawn; for distinct ones they depend on the rejected tokens, of which
one sequence is sampled: unbiased, and always in [0, 1].
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hedgespec.speculative.noise import Purpose, uniforms
from hedgespec.speculative.sparse_rows import TokenDistribution
from hedgespec.types import SparseRows

Floats = NDArray[np.float64]


def first_token_scores(
    draft_rows: SparseRows,
    token_ids: NDArray[np.int32],
    target_probs: NDArray[np.float32],
    target_top: SparseRows | None,
    num_children: int,
    noise_seed: int,
    output_indices: NDArray[np.int64],
    *,
    is_distinct: bool,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return, per row, a at the realised token, and 1 - |P|, the probability that any child is accepted. Both [num_rows].

    draft_rows: the drafter's truncated distributions
    target_top: the target's largest probabilities, exact where they hold all of its mass. The mass that they leave out is
        assumed to be spread like the drafter's: |P| is then a lower bound
    """
    acceptance = np.zeros(draft_rows.num_rows, np.float32)
    any_accepted = np.zeros(draft_rows.num_rows, np.float32)
    for row, token in enumerate(token_ids.tolist()):
        sent = target_top.row(row) if target_top is not None else (np.zeros(0, np.int32), np.zeros(0, np.float32))
        draft, target, realised = _aligned(draft_rows.row(row), sent, token, float(target_probs[row]))
        noise = uniforms(noise_seed, int(output_indices[row]), Purpose.SHADOW, np.arange(num_children))
        residual = _residual(draft, target, noise if is_distinct else None, num_children)
        acceptance[row] = np.clip(1.0 - residual[realised] / target[realised], 0.0, 1.0)
        any_accepted[row] = np.clip(1.0 - residual.sum() / target.sum(), 0.0, 1.0)
    return acceptance, any_accepted


def _residual(draft: Floats, target: Floats, noise: Floats | None, num_children: int) -> Floats:
    """P after all children, [num_ids]. draft and target: [num_ids]; noise: [num_children] for distinct children."""
    residual, offer = target.copy(), draft.copy()
    for child in range(num_children):
        mass, offered_mass = residual.sum(), offer.sum()
        if mass <= 0.0 or offered_mass <= 0.0:
            break
        offered = offer * (mass / offered_mass)
        taken = np.minimum(residual, offered)
        residual -= taken
        if noise is not None:
            offer[_drawn(offered - taken, noise[child])] = 0.0
    return residual


def _drawn(weights: Floats, point: float) -> int:
    cumulative = np.cumsum(weights)
    chosen = int(np.searchsorted(cumulative, point * cumulative[-1], side="right"))
    return min(chosen, len(weights) - 1)


def _aligned(
    draft: TokenDistribution, sent: TokenDistribution, token: int, token_prob: float
) -> tuple[Floats, Floats, int]:
    """Put q and p on the ids of both, [num_ids] each; the last is the index of the realised token among them."""
    target_of = dict(zip(sent[0].tolist(), sent[1].astype(np.float64).tolist(), strict=True))
    target_of[token] = max(token_prob, float(np.finfo(np.float32).tiny))
    draft_of = dict(zip(draft[0].tolist(), draft[1].astype(np.float64).tolist(), strict=True))
    rest = max(0.0, 1.0 - sum(target_of.values()))
    unsent = [token for token in draft_of if token not in target_of]
    unsent_mass = sum(draft_of[token] for token in unsent)
    if unsent_mass > 0.0:
        target_of |= {token: rest * draft_of[token] / unsent_mass for token in unsent}
    else:
        target_of[-1] = rest  # an id that the drafter never proposes
    ids = list(target_of)
    return np.array([draft_of.get(t, 0.0) for t in ids]), np.array([target_of[t] for t in ids]), ids.index(token)
