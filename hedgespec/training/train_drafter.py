"""Train an EAGLE-3 head for a target and a domain, on the domain's text and on the target's own continuations of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer

from hedgespec.config import Device
from hedgespec.models.eagle3.head import Eagle3Head, save_eagle3
from hedgespec.training import Progress
from hedgespec.training.allocator import keep_freed_memory
from hedgespec.training.checkpoint import Checkpoint
from hedgespec.training.fresh_head import draft_vocabulary, fresh_head
from hedgespec.training.optimizer import Optimizers, schedule
from hedgespec.training.own_text import continue_prompts
from hedgespec.training.precision import mixed_precision
from hedgespec.training.teacher import Lesson, Lessons, Teacher
from hedgespec.training.text import Windows, read_documents, text_windows
from hedgespec.training.ttt import ttt_loss


@dataclass(frozen=True, slots=True)
class DrafterSettings:
    """The recipe of a head; it is trained on steps * sequences_per_step * sequence_length tokens.

    num_depths:        draft tokens that the training-time test unrolls; depth i has loss weight depth_decay**i
    start_share:       part of the rows that are unrolled beyond depth 0
    intermediate_size: width of the head's feed-forward layer; None takes the target's, as published heads do
    own_text_share:    part of the windows that the target wrote itself, continuing prompts of min_prompt_length to
                       max_prompt_length tokens; the others are the domain's text
    lesson_memory_bytes: memory for the target's features and logits, which later epochs need again
    """

    steps: int = 720
    sequences_per_step: int = 4
    sequence_length: int = 256
    num_depths: int = 5
    depth_decay: float = 0.8
    start_share: float = 0.3
    draft_vocab_size: int = 2048
    intermediate_size: int | None = None
    min_prompt_length: int = 40
    max_prompt_length: int = 120
    own_text_share: float = 0.85
    num_text_windows: int = 480
    num_own_windows: int = 1024
    matrix_lr: float = 0.02
    embedding_lr: float = 0.003
    seed: int = 0
    device: Device = "cpu"
    lesson_memory_bytes: int = 2 * 2**30
    checkpoint_every_s: float = 60.0


def train_drafter(
    target: Path, text: Path, out: Path, settings: DrafterSettings, *, resume: bool, progress: Progress
) -> Eagle3Head:
    """Train a head on the text below a path and save it in the folder `out`, in the published EAGLE-3 format.

    Work files live in `out`/.training until the head is done. resume: continue from them instead of removing them.
    """
    keep_freed_memory()
    work = out / ".training"
    work.mkdir(parents=True, exist_ok=True)
    if not resume:
        for old in work.iterdir():
            old.unlink()
    teacher = Teacher(target, settings.device)
    windows = domain_windows(teacher, target, text, settings)
    own_file = work / "own_text.npy"
    if not own_file.is_file():
        prompts = beginnings(windows, settings)
        own = continue_prompts(
            teacher, prompts, settings.sequence_length, settings.seed, lambda share: progress("own text", share, "")
        )
        np.save(own_file, own)
    data = mixed(windows, np.load(own_file), settings)
    head = train_head(teacher, data, settings, work / "head.pt", progress)
    save_eagle3(head, out)
    for old in work.iterdir():
        old.unlink()
    work.rmdir()
    return head


def domain_windows(teacher: Teacher, target: Path, text: Path, settings: DrafterSettings) -> Windows:
    """Cut the domain's text into windows, [num_windows, sequence_length]."""
    tokenizer = Tokenizer.from_file(str(target / "tokenizer.json"))
    max_bytes = settings.num_text_windows * settings.sequence_length * 6
    documents = read_documents(text, max_bytes=max_bytes, seed=settings.seed)
    eos = teacher.config.eos_token_id
    eos_id = eos[0] if isinstance(eos, list) else eos
    windows = text_windows(tokenizer, documents, eos_id, settings.sequence_length, settings.seed)
    return windows[: settings.num_text_windows]


def beginnings(windows: Windows, settings: DrafterSettings) -> list[Windows]:
    """Take `num_own_windows` prompts: the beginnings of windows, with lengths drawn from what the settings allow."""
    rng = np.random.default_rng(settings.seed + 1)
    chosen = np.resize(rng.permutation(len(windows)), settings.num_own_windows)
    lengths = rng.integers(settings.min_prompt_length, settings.max_prompt_length, len(chosen), endpoint=True)
    return [windows[row, :length] for row, length in zip(chosen, lengths, strict=True)]


def mixed(windows: Windows, own: Windows, settings: DrafterSettings) -> Windows:
    """Shuffle domain text and the target's own text into exactly the windows of a run; each part repeats in epochs."""
    needed = settings.steps * settings.sequences_per_step
    num_own = round(needed * settings.own_text_share)
    rng = np.random.default_rng(settings.seed + 2)
    parts = [
        np.resize(rng.permutation(len(part)), count) for part, count in ((own, num_own), (windows, needed - num_own))
    ]
    data: Windows = np.concatenate([own[parts[0]], windows[parts[1]]])
    return data[rng.permutation(needed)]


def train_head(
    teacher: Teacher, data: Windows, settings: DrafterSettings, checkpoint: Path, progress: Progress
) -> Eagle3Head:
    """Train a head on windows [num_windows, length], resuming from the file `checkpoint` when it exists.

    Heads of one target and seed start from the same weights.
    """
    draft_ids = draft_vocabulary(data, settings.draft_vocab_size, teacher.config.vocab_size)
    head = fresh_head(teacher, draft_ids, settings.intermediate_size, settings.seed)
    windows, order = np.unique(data, axis=0, return_inverse=True)
    batches = np.resize(order.reshape(-1), (settings.steps, settings.sequences_per_step))
    lessons = Lessons(teacher, windows, head.draft_to_target, settings.lesson_memory_bytes)
    return fit_head(head, lessons.batch, batches, settings, checkpoint, progress)


def fit_head(
    head: Eagle3Head,
    lesson_of: Callable[[NDArray[np.int64]], Lesson],
    batches: NDArray[np.int64],
    settings: DrafterSettings,
    checkpoint: Path,
    progress: Progress,
) -> Eagle3Head:
    """Train a head on batches of windows, resuming from the file `checkpoint` when it exists.

    lesson_of: makes the lesson of some windows. batches: [steps, sequences_per_step], indices of windows
    """
    optimizers = Optimizers(head, matrix_lr=settings.matrix_lr, embedding_lr=settings.embedding_lr)
    saved_run = Checkpoint(checkpoint, _recipe(settings), head, optimizers)
    step = int((saved_run.load(settings.device) or {"step": 0})["step"])
    hits = torch.zeros(settings.num_depths)
    saved = time.monotonic()
    while step < settings.steps:
        lesson = lesson_of(batches[step])
        with mixed_precision(settings.device):
            loss, hit = ttt_loss(head, lesson, settings.num_depths, settings.depth_decay, _starts(settings, step))
        optimizers.set_rate(schedule(step / settings.steps, warmup=0.03, decay=0.6))
        loss.backward()
        torch.nn.utils.clip_grad_norm_([p for p in head.parameters() if p.requires_grad], 1.0)
        optimizers.step()
        step += 1
        hits = hit.cpu() if step == 1 else 0.95 * hits + 0.05 * hit.cpu()
        now = time.monotonic()
        shown_hits = " ".join(f"{h:.2f}" for h in hits.tolist())
        progress("head", step / settings.steps, f"step {step} loss {loss.item():.2f} hits {shown_hits}")
        if now - saved > settings.checkpoint_every_s:
            saved = now
            saved_run.save(step=step)
    return head.eval()


def _starts(settings: DrafterSettings, step: int) -> torch.Tensor:
    """Draw the rows to unroll beyond depth 0: neighbouring rows teach nearly the same, so a part of them is enough."""
    rows = settings.sequence_length - settings.num_depths
    drawn = np.random.default_rng((settings.seed, step)).permutation(rows)[: round(rows * settings.start_share)]
    return torch.from_numpy(np.sort(drawn)).to(settings.device)


def _recipe(settings: DrafterSettings) -> dict[str, Any]:
    """Return the settings that decide the weights of the head."""
    free = ("checkpoint_every_s", "device", "lesson_memory_bytes")
    return {k: v for k, v in asdict(settings).items() if k not in free}
