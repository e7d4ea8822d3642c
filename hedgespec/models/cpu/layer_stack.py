"""A causal LM from its embeddings to its logits as one call that `scripting` can compile.

Annotations must be types here, no strings.
"""

import torch
from torch import Tensor, nn

from hedgespec.models.cpu.lean_layer import LayerWeights, after_attention, before_attention, length_of
from hedgespec.models.cpu.planned_attention import AttentionPlan, attend_planned


class LayerStack(nn.Module):
    """Lean layers, a last norm and an output matrix.

    head: called with [num_rows, hidden]; scale, floor: of the norm before it, see `lean_layer.Norm`
    """

    layers: list[LayerWeights]

    def __init__(self, layers: list[LayerWeights], head: nn.Module, scale: Tensor, floor: Tensor) -> None:
        super().__init__()
        self.layers = layers
        self.head = head
        self.scale, self.floor = scale, floor

    def forward(
        self, hidden: Tensor, rotation: Tensor, wanted: Tensor | None, plan: AttentionPlan, tapped: list[int]
    ) -> tuple[Tensor, list[Tensor]]:
        """hidden: [total_rows, hidden]; rotation: [total_rows, 1, head_dim / 2]; the rest as in `network.Network`."""
        taps: list[Tensor] = []
        for index, layer in enumerate(self.layers):
            for other in tapped:
                if other == index:
                    taps.append(hidden)
            query, key, value = before_attention(layer, hidden, rotation)
            attended = attend_planned(plan, index, query, key, value, layer.scale)
            hidden = after_attention(layer, hidden, attended)
        return self.logits(hidden, wanted), taps

    def logits(self, hidden: Tensor, wanted: Tensor | None) -> Tensor:
        """[num_wanted, vocab]"""
        if wanted is not None:
            hidden = torch.index_select(hidden, 0, wanted)
        logits: Tensor = self.head(hidden / length_of(hidden, self.floor) * self.scale)
        return logits
