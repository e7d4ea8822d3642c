"""One EAGLE-3 head: the published architecture, tensor names and config keys, in torch alone.

An attention is passed in, so that training (the training-time-test pattern over whole sequences) and serving (packed
tokens of many sessions over an engine's own KV memory) share this module. Source: Li et al. 2025 (EAGLE-3).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from hedgespec.errors import ModelFolderError
from hedgespec.models.eagle3.compact import OUTPUT, output_rows, rounded, widened
from hedgespec.models.eagle3.config import Eagle3Config
from hedgespec.models.eagle3.layers import Attend, Midlayer, RMSNorm
from hedgespec.models.folder import read_config, read_tensors
from hedgespec.models.rotary import Rotary


class Eagle3Head(nn.Module):
    """One EAGLE-3 head. All methods take any leading dimensions; `num_tokens` stands for them.

    Its embedding is zero until the target's is copied into it.
    """

    def __init__(self, config: Eagle3Config) -> None:
        super().__init__()
        self.config = config
        # it is the target's, in training as well. (Here and in `rotary` nothing is drawn or counted on the meta device: that
        # imports torch's compiler, two seconds at the start of every drafter's process.)
        no_weights = torch.zeros(config.vocab_size, config.hidden_size)
        self.embed_tokens = nn.Embedding.from_pretrained(no_weights, freeze=True)
        self.fc = nn.Linear(3 * config.target_hidden_size, config.hidden_size, bias=config.has_fc_bias)
        self.midlayer = Midlayer(config)
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.lm_head = nn.Linear(config.hidden_size, config.draft_vocab_size, bias=False)
        self.draft_to_target: Tensor
        self.register_buffer("draft_to_target", torch.arange(config.draft_vocab_size, device="cpu"), persistent=False)

    @property
    def dtype(self) -> torch.dtype:
        return self.norm.weight.dtype

    def embed(self, token_ids: Tensor) -> Tensor:
        """Embed token ids: [num_tokens] -> [num_tokens, hidden]."""
        embedded: Tensor = self.embed_tokens(token_ids)
        return embedded

    def fuse(self, features: Tensor) -> Tensor:
        """Bring a target's features to the head's width: [num_tokens, 3 * target_hidden] -> [num_tokens, hidden]."""
        fused: Tensor = self.fc(features)
        return fused

    def step(self, token_embeds: Tensor, hidden: Tensor, positions: Tensor, attend: Attend) -> Tensor:
        """Run the layer once, for training; serving computes the same by `HeadPasses`. Returns [num_tokens, hidden].

        token_embeds: [num_tokens, hidden], the embedding of the token *after* the one that `hidden` belongs to
        hidden:       [num_tokens, hidden], fused target features, or what the step before returned
        positions:    [num_tokens], for the rotary embedding
        attend:       see `layers.Attend`
        """
        state: Tensor = self.midlayer(token_embeds, hidden, positions, attend)
        return state

    def logits(self, hidden_out: Tensor) -> Tensor:
        """Return logits over the draft vocabulary, [num_tokens, draft_vocab]; see `draft_to_target` for the ids."""
        logits: Tensor = self.lm_head(self.norm(hidden_out))
        return logits


def load_eagle3(
    folder: Path,
    embed_tokens: Tensor | None,
    *,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    target_output: Callable[[], Tensor] | None = None,
) -> Eagle3Head:
    """Load a published EAGLE-3 folder (`midlayer.*` or `layers.0.*`, with or without `model.`), ready for inference.

    embed_tokens:  the target's input embedding [vocab, hidden], used when the folder has none of its own
    target_output: reads the target's output matrix [vocab, hidden], for a folder that leaves its rows out, see `compact`
    Raises ModelFolderError for pickled weights, unsupported variants, missing, misshapen or non-finite tensors.
    """
    config = Eagle3Config.from_published(read_config(folder))
    tensors = widened(folder, {_own_name(name): tensor for name, tensor in read_tensors(folder, _is_loaded)})
    draft_to_target = _draft_to_target(folder, config, tensors.pop("d2t", None))
    if OUTPUT not in tensors:
        tensors[OUTPUT] = output_rows(folder, draft_to_target, target_output)
    if "embed_tokens.weight" not in tensors:
        if embed_tokens is None:
            raise ModelFolderError(f"{folder} has no embed_tokens.weight and no target embedding was given.")
        tensors["embed_tokens.weight"] = embed_tokens
    with torch.device("meta"):
        head = Eagle3Head(config)
    _check_tensors(folder, tensors, {name: tuple(p.shape) for name, p in head.named_parameters()})
    head.load_state_dict({name: tensor.detach().to(device, dtype) for name, tensor in tensors.items()}, assign=True)
    head.midlayer.self_attn.rotary = Rotary(config.rope, config.head_dim).to(device)
    head.draft_to_target = draft_to_target.to(device)
    return head.eval().requires_grad_(False)


def save_eagle3(head: Eagle3Head, folder: Path, dtype: torch.dtype = torch.bfloat16) -> None:
    """Write config.json and model.safetensors with the published names; the embedding stays with the target."""
    own = {name: p.detach().to("cpu", dtype).contiguous() for name, p in _own_parameters(head)}
    is_drafted = torch.zeros(head.config.vocab_size, dtype=torch.bool)
    is_drafted[head.draft_to_target.cpu()] = True
    _save(head, folder, own | {"t2d": is_drafted})


def save_compact(head: Eagle3Head, folder: Path) -> None:
    """Write the folder of a head whose output rows are the target's, in a fifth of the space; see `compact`."""
    parts = [rounded(name, p.detach().cpu()) for name, p in _own_parameters(head) if name != OUTPUT]
    _save(head, folder, {name: tensor for part in parts for name, tensor in part.items()})


def _own_parameters(head: Eagle3Head) -> list[tuple[str, nn.Parameter]]:
    return [(name, p) for name, p in head.named_parameters() if not name.startswith("embed_tokens.")]


def _save(head: Eagle3Head, folder: Path, tensors: dict[str, Tensor]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    targets = head.draft_to_target.cpu()
    save_file(
        tensors | {"d2t": targets - torch.arange(len(targets))}, folder / "model.safetensors", metadata={"format": "pt"}
    )
    (folder / "config.json").write_text(json.dumps(head.config.to_published(), indent=2) + "\n", encoding="utf-8")


def _is_loaded(name: str) -> bool:
    return not (name.endswith("t2d") or "rotary_emb" in name)


def _own_name(name: str) -> str:
    name = name.removeprefix("model.")
    return "midlayer." + name.removeprefix("layers.0.") if name.startswith("layers.0.") else name


def _check_tensors(folder: Path, tensors: dict[str, Tensor], shapes: dict[str, tuple[int, ...]]) -> None:
    missing, unknown = sorted(shapes.keys() - tensors.keys()), sorted(tensors.keys() - shapes.keys())
    if missing or unknown:
        raise ModelFolderError(f"{folder} is no EAGLE-3 head: missing tensors {missing}, unknown tensors {unknown}.")
    for name, shape in shapes.items():
        if tuple(tensors[name].shape) != shape:
            raise ModelFolderError(f"{folder}: {name} has shape {list(tensors[name].shape)}, expected {list(shape)}.")


def _draft_to_target(folder: Path, config: Eagle3Config, offsets: Tensor | None) -> Tensor:
    """Turn the published differences into absolute target ids, [draft_vocab]."""
    draft_ids = torch.arange(config.draft_vocab_size)
    if offsets is None or config.draft_vocab_size == config.vocab_size:
        if config.draft_vocab_size != config.vocab_size:
            raise ModelFolderError(f"{folder} drafts from {config.draft_vocab_size} tokens but has no d2t map.")
        return draft_ids
    if offsets.shape != draft_ids.shape:
        raise ModelFolderError(f"{folder}: d2t has shape {list(offsets.shape)}, expected [{config.draft_vocab_size}].")
    targets = draft_ids + offsets.to(torch.int64)
    if int(targets.min()) < 0 or int(targets.max()) >= config.vocab_size or len(targets.unique()) != len(targets):
        raise ModelFolderError(f"{folder}: d2t does not map to distinct ids below {config.vocab_size}.")
    return targets
