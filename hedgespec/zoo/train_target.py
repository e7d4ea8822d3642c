"""Train the zoo's target, a small Llama, and write it as a transformers checkpoint folder."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from hedgespec.training import StageProgress
from hedgespec.training.checkpoint import Checkpoint
from hedgespec.training.optimizer import Optimizers, schedule
from hedgespec.zoo.dataset import Tokens, windows

BOS_ID, EOS_ID, PAD_ID, END_ID = 0, 1, 2, 6


@dataclass(frozen=True, slots=True)
class TargetSettings:
    """The shape of a target and the recipe of its training.

    lengths: (share of the run after which it applies, sequence length), rising
    minutes: the run ends after this time when its steps have not ended it before
    """

    hidden_size: int = 256
    num_layers: int = 12
    num_heads: int = 4
    num_kv_heads: int = 2
    intermediate_size: int = 768
    vocab_size: int = 4096
    max_positions: int = 4096
    steps: int = 1800
    tokens_per_step: int = 4096
    lengths: tuple[tuple[float, int], ...] = ((0.0, 256), (0.5, 512), (0.9, 2048))
    matrix_lr: float = 0.02
    embedding_lr: float = 0.004
    seed: int = 0
    device: str = "cpu"
    minutes: float | None = None
    checkpoint_every_s: float = 180.0


def build_target(settings: TargetSettings) -> LlamaForCausalLM:
    """Make an untrained float32 model."""
    torch.manual_seed(settings.seed)
    config = LlamaConfig(
        vocab_size=settings.vocab_size,
        hidden_size=settings.hidden_size,
        intermediate_size=settings.intermediate_size,
        num_hidden_layers=settings.num_layers,
        num_attention_heads=settings.num_heads,
        num_key_value_heads=settings.num_kv_heads,
        max_position_embeddings=settings.max_positions,
        rms_norm_eps=1e-5,
        rope_theta=10000.0,
        tie_word_embeddings=True,
        bos_token_id=BOS_ID,
        eos_token_id=[EOS_ID, END_ID],
        pad_token_id=PAD_ID,
        attn_implementation="sdpa",
    )
    return LlamaForCausalLM(config)


def train_target(
    settings: TargetSettings, tokens: Tokens, checkpoint: Path, progress: StageProgress
) -> LlamaForCausalLM:
    """Train on a token stream [num_tokens], resuming from the file `checkpoint` when it exists, and return the model.

    progress: called after each step
    """
    model = build_target(settings).to(settings.device)
    optimizers = Optimizers(model, matrix_lr=settings.matrix_lr, embedding_lr=settings.embedding_lr)
    saved_run = Checkpoint(checkpoint, _recipe(settings), model, optimizers)
    state = saved_run.load(settings.device) or {"step": 0, "elapsed": 0.0, "smooth": 0.0}
    step, elapsed, smooth = state["step"], state["elapsed"], state["smooth"]
    model.train()
    started = time.monotonic() - elapsed
    saved = time.monotonic()
    while (done := _share_done(settings, step, time.monotonic() - started)) < 1.0:
        length = max(length for start, length in settings.lengths if done >= start)
        batch = _batch(tokens, settings, step, length)
        optimizers.set_rate(schedule(done, warmup=0.02, decay=0.55))
        loss = _step(model, batch.to(settings.device), optimizers)
        step += 1
        smooth = loss if step == 1 else 0.95 * smooth + 0.05 * loss
        now = time.monotonic()
        tokens_per_s = step * settings.tokens_per_step / (now - started)
        progress(done, f"step {step} loss {smooth:.3f} tokens/s {tokens_per_s:.0f}")
        if now - saved > settings.checkpoint_every_s:
            saved = now
            saved_run.save(step=step, elapsed=now - started, smooth=smooth)
    saved_run.save(step=step, elapsed=time.monotonic() - started, smooth=smooth)
    return model.eval()


@torch.no_grad()
def held_out_loss(model: LlamaForCausalLM, tokens: Tokens, length: int = 1024, max_windows: int = 24) -> float:
    """Return the mean loss, in nats per token, over windows of a held-out token stream."""
    batch = torch.from_numpy(windows(tokens, length)[:max_windows].astype(np.int64)).to(model.device)
    losses = [_loss(model, row[None]).item() for row in batch]
    return sum(losses) / len(losses)


def export_target(model: LlamaForCausalLM, folder: Path, dtype: torch.dtype = torch.bfloat16) -> None:
    """Write config.json, generation_config.json and model.safetensors into a folder."""
    copy = LlamaForCausalLM(model.config).to(dtype)
    copy.load_state_dict(model.state_dict())
    copy.config.dtype = dtype
    copy.generation_config = GenerationConfig(bos_token_id=BOS_ID, eos_token_id=[EOS_ID, END_ID], pad_token_id=PAD_ID)
    copy.save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)  # transformers leaves it readable by its owner only


def _step(model: LlamaForCausalLM, batch: Tensor, optimizers: Optimizers) -> float:
    loss = _loss(model, batch)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizers.step()
    return float(loss.detach())


def _loss(model: LlamaForCausalLM, batch: Tensor) -> Tensor:
    """Return the mean cross-entropy of the next token. batch: [num_sequences, length]."""
    with torch.autocast(batch.device.type, dtype=torch.bfloat16):
        hidden = model.model(input_ids=batch, use_cache=False).last_hidden_state
        logits = model.lm_head(hidden[:, :-1].reshape(-1, hidden.shape[-1]))
    return F.cross_entropy(logits.float(), batch[:, 1:].reshape(-1))


def _batch(tokens: Tokens, settings: TargetSettings, step: int, length: int) -> Tensor:
    """Return the windows of one step, [num_sequences, length], in a seeded order.

    Neighbours in the stream come from one document, and a batch of those trains badly.
    """
    count = settings.tokens_per_step // length
    order = np.random.default_rng((settings.seed, length)).permutation(len(tokens) // length)
    chosen = order[(step * count + np.arange(count)) % len(order)]
    return torch.from_numpy(windows(tokens, length)[chosen].astype(np.int64))


def _share_done(settings: TargetSettings, step: int, elapsed_s: float) -> float:
    by_steps = step / settings.steps
    by_time = 0.0 if settings.minutes is None else elapsed_s / (60 * settings.minutes)
    return max(by_steps, by_time)


def _recipe(settings: TargetSettings) -> dict[str, object]:
    free = ("minutes", "steps", "checkpoint_every_s", "device")
    return {k: v for k, v in asdict(settings).items() if k not in free}
