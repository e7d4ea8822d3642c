"""`--model NAME` stands for a whole configuration: the model as the target, with the drafters that fit it."""

from __future__ import annotations

from hedgespec.assembly.model_sources import SMOLLM2, ZOO
from hedgespec.config import LAPTOP_GROUP, AppArgs, Device, DrafterConfig, TargetConfig, laptop_args
from hedgespec.zoo.smollm2.heads import head_folders

SMOLLM2_TARGET = TargetConfig(
    model=SMOLLM2,
    model_name="smollm2-135m-instruct",
    quantization="int8",
    max_cached_tokens=4 * 8192,  # four answers of its whole context: 1.5 GB of memory once they are that long
)
"""How SmolLM2 is served on a laptop. Other settings of its target belong here."""


def model_args(model: str, device: Device = "cpu") -> AppArgs:
    """Return the configuration that serves a model on this machine.

    model: `zoo` and `smollm2` come with their heads; a folder, a GGUF file or `tabular:SEED` with the n-gram drafter alone
    """
    if model == ZOO:
        return laptop_args(device)
    if model == SMOLLM2:
        changes = {"device": device, "quantization": SMOLLM2_TARGET.quantization if device == "cpu" else "none"}
        target, heads = SMOLLM2_TARGET.model_copy(update=changes), tuple(head_folders())
    else:
        target, heads = TargetConfig(model=model, device=device), ()
    drafters = [DrafterConfig(id=i, kind="eagle3", model=model, device=device, group=LAPTOP_GROUP) for i in heads]
    ngram = DrafterConfig(id="ngram", kind="ngram", device=device, group=LAPTOP_GROUP)
    return AppArgs(target=target, drafters=(*drafters, ngram))
