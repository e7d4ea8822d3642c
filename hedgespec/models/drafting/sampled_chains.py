"""How sampled chains are shaped and drawn on whatever device the network computes.

Functions of plain tuples, so that `scripting` can compile them; annotations must be types here, no strings.
"""

from typing import NamedTuple

from torch import Tensor

from hedgespec.speculative.device_sampling import draw, draw_coupled, sampled_laws


class SampledShape(NamedTuple):
    """Of several chains that are drawn by one method.

    temperature, top_k, top_p: [num_chains], see `sampled_laws`
    noise:   [num_chains, num_tokens]; for `rejection` points in (0, 1), for `coupled` the keys of `noise.coupled_keys`
    max_ids, mass: see `sampled_laws`
    """

    temperature: Tensor
    top_k: Tensor
    top_p: Tensor
    noise: Tensor
    is_coupled: bool
    max_ids: int
    mass: float


def sampled_tokens(
    logits: Tensor, draft_to_target: Tensor, heads: Tensor, shape: SampledShape, step: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The step-th token of every chain, [num_chains]; ids and probabilities of its law, [num_chains, num_ids].

    logits: [num_chains, num_columns]; draft_to_target: [num_heads, num_columns]; heads: [num_chains]
    """
    columns, probs = sampled_laws(logits, shape.temperature, shape.top_k, shape.top_p, shape.max_ids, shape.mass)
    ids = draft_to_target[heads.unsqueeze(1), columns]
    noise = shape.noise.select(1, step)
    places = draw_coupled(ids, probs, noise) if shape.is_coupled else draw(probs, noise)
    return ids.gather(1, places.unsqueeze(1)).squeeze(1), ids, probs
