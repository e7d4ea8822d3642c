"""How sampled chains are shaped and drawn on whatever device the network computes.

Functions of plain tuples, so that `scripting` can compile them; annotations must be types here, no strings.
"""

from typing import NamedTuple

from torch import Tensor

from hedgespec.speculative.device_sampling import Shaping, draw, draw_coupled, truncated_distributions


class SampledShape(NamedTuple):
    """Of several chains that are drawn by one method.

    shaping: of their rows
    noise:   [num_chains, num_tokens]; for `rejection` points in (0, 1), for `coupled` the keys of `noise.coupled_keys`
    max_ids, mass: see `truncated_distributions`
    """

    shaping: Shaping
    noise: Tensor
    is_coupled: bool
    max_ids: int
    mass: float


def on_device(shape: SampledShape, like: Tensor) -> SampledShape:
    """The same with its tensors where `like` is."""
    own, device = shape.shaping, like.device
    shaping = Shaping(own.values.to(device), own.has_top_k, own.has_top_p)
    return SampledShape(shaping, shape.noise.to(device), shape.is_coupled, shape.max_ids, shape.mass)


def sampled_tokens(
    logits: Tensor, draft_to_target: Tensor, heads: Tensor, shape: SampledShape, step: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The step-th token of every chain, [num_chains]; ids and probabilities of its law, [num_chains, num_ids].

    logits: [num_chains, num_columns]; draft_to_target: [num_heads, num_columns]; heads: [num_chains]
    """
    columns, probs = truncated_distributions(logits, shape.shaping, shape.max_ids, shape.mass)
    ids = draft_to_target[heads.unsqueeze(1), columns]
    noise = shape.noise.select(1, step)
    places = draw_coupled(ids, probs, noise) if shape.is_coupled else draw(probs, noise)
    return ids.gather(1, places.unsqueeze(1)).squeeze(1), ids, probs
