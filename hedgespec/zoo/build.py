"""Build the zoo from nothing: corpus, tokenizer, target, the target's own text, heads, prompts, model card.

Every stage writes its result into `out` or `out`/.build and is skipped when that exists, so a stopped build continues.
"""

from __future__ import annotations

import json
import math
import shutil
from functools import partial
from random import Random

import numpy as np
import torch
from tokenizers import Tokenizer

from hedgespec.models.eagle3.head import save_eagle3
from hedgespec.training import Progress, StageProgress
from hedgespec.training.allocator import keep_freed_memory
from hedgespec.training.own_text import continue_prompts
from hedgespec.training.teacher import Teacher
from hedgespec.training.text import Windows
from hedgespec.training.train_drafter import mixed, train_head
from hedgespec.zoo import DOMAINS, DRAFTERS
from hedgespec.zoo.card import write_card
from hedgespec.zoo.dataset import encode_stream, prepare, training_documents, training_texts, windows
from hedgespec.zoo.parallel import run_parallel
from hedgespec.zoo.prompts import cut_prompts, held_out_prompts
from hedgespec.zoo.settings import ZooSettings
from hedgespec.zoo.train_target import export_target, held_out_loss, train_target

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


def build_zoo(settings: ZooSettings, progress: Progress) -> None:
    """Build every part of the zoo that is missing in `settings.out`."""
    keep_freed_memory()
    settings.work.mkdir(parents=True, exist_ok=True)
    progress("corpus and tokenizer", 0.0, "")
    tokenizer = prepare(
        settings.work,
        seed=settings.seed,
        train_bytes=settings.train_bytes,
        held_out_bytes=settings.held_out_bytes,
        vocab_size=settings.target.vocab_size,
    )
    _build_target(settings, progress)
    _write_text(settings, tokenizer)
    run_parallel(_write_own_text, settings, DOMAINS, "own text", progress)
    run_parallel(_build_head, settings, DRAFTERS, "head", progress)
    _write_prompts(settings, tokenizer)
    _write_card(settings, tokenizer)


def _build_target(settings: ZooSettings, progress: Progress) -> None:
    folder, work = settings.out / "target", settings.work
    if (work / "losses.json").is_file():
        return
    tokens = np.load(work / "train.npy")
    model = train_target(settings.target, tokens, work / "target.pt", partial(progress, "target"))
    export_target(model, folder)
    for name in _TOKENIZER_FILES:
        shutil.copyfile(work / name, folder / name)
    losses = {d: held_out_loss(model, np.load(work / f"validation-{d}.npy")) for d in DOMAINS}
    (work / "losses.json").write_text(json.dumps(losses), encoding="utf-8")


def _write_text(settings: ZooSettings, tokenizer: Tokenizer) -> None:
    """Write two files per domain from its training documents: `text-<domain>.npy`, windows of them and of chats about
    them, and `starts-<domain>.json`, prompts cut from them as the held-out ones are."""
    drafter = settings.drafter
    for domain in DOMAINS:
        text, starts = settings.work / f"text-{domain}.npy", settings.work / f"starts-{domain}.json"
        if text.is_file() and starts.is_file():
            continue
        documents = training_documents(domain, seed=settings.seed, train_bytes=settings.train_bytes)
        cut = windows(encode_stream(tokenizer, training_texts(documents, settings.seed + 1)), drafter.sequence_length)
        order = np.random.default_rng(settings.seed).permutation(len(cut))[: drafter.num_text_windows]
        np.save(text, cut[order].astype(np.int64))
        rng = Random(f"starts-{settings.seed}-{domain}")
        starts.write_text(json.dumps(cut_prompts(tokenizer, documents, rng, drafter.num_own_windows)), encoding="utf-8")


def _write_own_text(settings: ZooSettings, domain: str, progress: StageProgress) -> None:
    """Write `own-<domain>.npy`: the target's continuations of the domain's prompts."""
    file = settings.work / f"own-{domain}.npy"
    if file.is_file():
        return
    teacher = Teacher(settings.out / "target", settings.drafter.device)
    tokenizer = Tokenizer.from_file(str(settings.work / "tokenizer.json"))
    starts = json.loads((settings.work / f"starts-{domain}.json").read_text(encoding="utf-8"))
    longest = settings.drafter.max_prompt_length
    prompts = [np.asarray(e.ids[:longest]) for e in tokenizer.encode_batch(starts, add_special_tokens=False)]
    length, seed = settings.drafter.sequence_length, settings.drafter.seed
    np.save(file, continue_prompts(teacher, prompts, length, seed, lambda share: progress(share, "")))


def _build_head(settings: ZooSettings, name: str, progress: StageProgress) -> None:
    folder = settings.out / name
    if (folder / "model.safetensors").is_file():
        return
    teacher = Teacher(settings.out / "target", settings.drafter.device)
    data = _head_data(settings, name)
    checkpoint = settings.work / f"head-{name}.pt"
    head = train_head(teacher, data, settings.drafter, checkpoint, lambda _, share, figures: progress(share, figures))
    save_eagle3(head, folder)


def _head_data(settings: ZooSettings, name: str) -> Windows:
    """Return the training windows of a head, [num_windows, length]: its domain's; for `generic` an equal part of each."""
    domains = DOMAINS if name == "generic" else (name,)
    parts = [
        mixed(np.load(settings.work / f"text-{d}.npy"), np.load(settings.work / f"own-{d}.npy"), settings.drafter)
        for d in domains
    ]
    share = math.ceil(len(parts[0]) / len(parts))
    data: Windows = np.concatenate([part[:share] for part in parts])[: len(parts[0])]
    return data[np.random.default_rng(settings.seed).permutation(len(data))]


def _write_prompts(settings: ZooSettings, tokenizer: Tokenizer) -> None:
    prompts = {
        split: {
            domain: held_out_prompts(tokenizer, domain, split, seed=settings.seed, count=settings.num_prompts)
            for domain in DOMAINS
        }
        for split in ("test", "validation")
    }
    (settings.out / "prompts.json").write_text(json.dumps(prompts, indent=1) + "\n", encoding="utf-8")


def _write_card(settings: ZooSettings, tokenizer: Tokenizer) -> None:
    state = torch.load(settings.work / "target.pt", map_location="cpu", weights_only=True)
    num_parameters = sum(t.numel() for name, t in state["model"].items() if name != "lm_head.weight")
    nats = json.loads((settings.work / "losses.json").read_text(encoding="utf-8"))
    losses = {d: (loss, loss / math.log(2) / _bytes_per_token(settings, tokenizer, d)) for d, loss in nats.items()}
    write_card(settings, num_parameters, state["step"], state["elapsed"] / 60, losses)


def _bytes_per_token(settings: ZooSettings, tokenizer: Tokenizer, domain: str) -> float:
    tokens = np.load(settings.work / f"validation-{domain}.npy")
    return len(tokenizer.decode(tokens.tolist()).encode()) / len(tokens)
