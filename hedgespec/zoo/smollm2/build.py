"""Build SmolLM2's heads from nothing: it answers questions, then a head for everything and one per domain learn from that.

Every stage writes its result into `out` or `out`/.build and is skipped when that exists, so a stopped build continues.
"""

from __future__ import annotations

import json
import time
from functools import partial
from pathlib import Path

from hedgespec.models.causal_lm.folder import load_causal_lm
from hedgespec.models.eagle3.head import load_eagle3, save_compact
from hedgespec.models.folder import read_embedding, read_output_matrix
from hedgespec.models.lean.lean_network import accelerate
from hedgespec.tokenization import Tokenizer
from hedgespec.training import Progress
from hedgespec.training.allocator import keep_freed_memory
from hedgespec.training.conversations import Conversations, hold_conversations
from hedgespec.training.fresh_head import fresh_head_for
from hedgespec.training.train_on_conversations import answer_vocabulary, train_on_conversations
from hedgespec.zoo.smollm2 import DOMAINS, GENERIC
from hedgespec.zoo.smollm2.card import write_card
from hedgespec.zoo.smollm2.questions import questions
from hedgespec.zoo.smollm2.settings import HeadsSettings


def build_heads(target: Path, settings: HeadsSettings, progress: Progress) -> None:
    """Build every head that is missing in `settings.out`, and the card. target: SmolLM2's model folder"""
    keep_freed_memory()
    settings.work.mkdir(parents=True, exist_ok=True)
    _hold_conversations(target, settings, progress)
    _build_generic(target, settings, progress)
    for domain in DOMAINS:
        _build_expert(target, settings, domain, progress)
    write_card(settings)


def _hold_conversations(target: Path, settings: HeadsSettings, progress: Progress) -> None:
    """Write `conversations-<domain>-<round>.safetensors`, round by round, so that any number of rounds is balanced."""
    wanted = [(domain, number) for number in range(settings.rounds) for domain in DOMAINS]
    missing = [(d, n) for d, n in wanted if not _conversations_file(settings, d, n).is_file()]
    if not missing:
        return
    # rounded as it is served: its text and features are then those that the heads will see
    model = accelerate(load_causal_lm(target, settings.generic.device, "target"), "int8")
    tokenizer = Tokenizer.from_folder(target)
    for domain, number in missing:
        asked = questions(domain, "train", settings.rounds * settings.num_questions, settings.seed)
        with _timed(settings, f"conversations {domain} {number}"):
            conversations = hold_conversations(
                model,
                tokenizer,
                asked[number :: settings.rounds],
                num_windows=settings.num_windows,
                length=settings.length,
                max_answer=settings.max_answer,
                seed=settings.seed + number,
                progress=partial(_report, progress, f"conversations {domain} {number}"),
            )
        conversations.save(_conversations_file(settings, domain, number))


def _build_generic(target: Path, settings: HeadsSettings, progress: Progress) -> None:
    folder = settings.out / GENERIC
    if (folder / "model.safetensors").is_file():
        return
    data, drafter = Conversations.joined([_conversations(settings, domain) for domain in DOMAINS]), settings.generic
    output = read_output_matrix(target)
    draft_ids = answer_vocabulary(data, drafter.draft_vocab_size, len(output))
    head = fresh_head_for(target, draft_ids, drafter.intermediate_size, drafter.seed)
    with _timed(settings, GENERIC):
        train_on_conversations(head, data, drafter, settings.work / f"{GENERIC}.pt", _named(progress, GENERIC))
    save_compact(head, folder)


def _build_expert(target: Path, settings: HeadsSettings, domain: str, progress: Progress) -> None:
    """Train a copy of the generic head on its domain alone; it keeps the draft vocabulary."""
    folder = settings.out / domain
    if (folder / "model.safetensors").is_file():
        return
    output = partial(read_output_matrix, target)
    head = load_eagle3(settings.out / GENERIC, read_embedding(target), target_output=output)
    head.requires_grad_(True)
    head.lm_head.requires_grad_(False)
    head.embed_tokens.requires_grad_(False)
    data, checkpoint = _conversations(settings, domain), settings.work / f"{domain}.pt"
    with _timed(settings, domain):
        train_on_conversations(head.train(), data, settings.expert, checkpoint, _named(progress, domain))
    save_compact(head, folder)


def _conversations(settings: HeadsSettings, domain: str) -> Conversations:
    files = [_conversations_file(settings, domain, number) for number in range(settings.rounds)]
    return Conversations.joined([Conversations.load(file) for file in files])


def _conversations_file(settings: HeadsSettings, domain: str, number: int) -> Path:
    return settings.work / f"conversations-{domain}-{number}.safetensors"


def _report(progress: Progress, stage: str, share: float) -> None:
    progress(stage, share, "")


def _named(progress: Progress, name: str) -> Progress:
    return lambda _, share, figures: progress(f"head {name}", share, figures)


class _timed:  # reads as a word in `with`
    """Adds the minutes of a stage, and what the card says of it, to `minutes.json`."""

    def __init__(self, settings: HeadsSettings, stage: str) -> None:
        self._file, self._stage = settings.work / "minutes.json", stage

    def __enter__(self) -> None:
        self._started = time.monotonic()

    def __exit__(self, *_: object) -> None:
        minutes = json.loads(self._file.read_text(encoding="utf-8")) if self._file.is_file() else {}
        minutes[self._stage] = minutes.get(self._stage, 0.0) + (time.monotonic() - self._started) / 60
        self._file.write_text(json.dumps(minutes), encoding="utf-8")
