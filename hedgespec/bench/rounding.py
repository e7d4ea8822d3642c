"""Measure how far a rounded target is from its own float32 weights (`hedgespec models compare`).

Both read the same texts: held-out documents of every domain, and answers that the float32 target writes greedily. At every
position their distributions of the next token are compared.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hedgespec.config import Quantization
from hedgespec.errors import ConfigError
from hedgespec.models.causal_lm.block import Block
from hedgespec.models.causal_lm.folder import load_causal_lm
from hedgespec.models.causal_lm.packed import PackedCausalLM
from hedgespec.models.lean.lean_network import accelerate
from hedgespec.models.memory.kv_memory import KvMemory
from hedgespec.tokenization import Tokenizer
from hedgespec.zoo import DOMAINS, held_out_prompts
from hedgespec.zoo.corpus import documents

BLOCK = 128
"""Rows of a pass; their logits of both models are held at once."""

OWN_ANSWERS = "own answers"


@dataclass(frozen=True, slots=True)
class Agreement:
    """How near two models are on some text.

    num_tokens:    positions at which they were compared
    top1:          share of positions where both have the same most probable token
    perplexity, rounded_perplexity: of the text, in float32 and rounded
    divergence:    mean Kullback-Leibler divergence of the rounded distribution from the float32 one, in nats
    """

    num_tokens: int
    top1: float
    perplexity: float
    rounded_perplexity: float
    divergence: float


@dataclass(frozen=True, slots=True)
class RoundingReport:
    """by_text: domain, or OWN_ANSWERS -> agreement; total: over all of their positions"""

    quantization: Quantization
    by_text: Mapping[str, Agreement]
    total: Agreement


@dataclass(frozen=True, slots=True)
class Text:
    """token_ids: [num_tokens]; the models are compared from position `start` on"""

    token_ids: NDArray[np.int32]
    start: int = 1


@torch.inference_mode()
def compare_rounded(
    folder: Path,
    quantization: Quantization,
    tokenizer: Tokenizer,
    num_tokens: int,
    num_answers: int,
    advance: Callable[[], None],
) -> RoundingReport:
    """Load a target twice and compare. num_tokens: of every domain's documents; num_answers: of half as many tokens each

    advance: called after every text, of which there are `num_texts(num_answers)`. Raises ConfigError, ModelFolderError.
    """
    exact = accelerate(load_causal_lm(folder, "cpu", "target"))
    rounded = accelerate(load_causal_lm(folder, "cpu", "target"), quantization)
    length = min(num_tokens, exact.max_positions)
    texts = {domain: _documents(domain, tokenizer, length) for domain in DOMAINS}
    sums: dict[str, NDArray[np.float64]] = {}
    for name, text in _with_answers(texts, exact, tokenizer, num_answers, length):
        sums[name] = sums.get(name, np.zeros(5)) + _compared(exact, rounded, text)
        advance()
    if not sums:
        raise ConfigError(f"no text of {num_tokens} tokens is left to compare")
    return RoundingReport(
        quantization, {name: _agreement(own) for name, own in sums.items()}, _agreement(sum(sums.values(), np.zeros(5)))
    )


def num_texts(num_answers: int) -> int:
    """Count the texts that `compare_rounded` reads."""
    return len(DOMAINS) + num_answers


def _documents(domain: str, tokenizer: Tokenizer, num_tokens: int) -> Text:
    found = documents(domain, "validation", seed=0, max_bytes=12 * num_tokens)
    joined = "\n\n".join(document.text[: 12 * num_tokens] for document in found)
    return Text(np.asarray(tokenizer.encode(joined)[:num_tokens], np.int32))


def _with_answers(
    texts: Mapping[str, Text], model: PackedCausalLM, tokenizer: Tokenizer, num_answers: int, length: int
) -> Iterator[tuple[str, Text]]:
    """Yield every text with its name; answers are written when their turn comes."""
    yield from texts.items()
    for number in range(num_answers):
        prompts = held_out_prompts(DOMAINS[number % len(DOMAINS)], "validation")
        prompt = np.asarray(tokenizer.encode(prompts[number // len(DOMAINS) % len(prompts)])[: length // 2], np.int32)
        yield OWN_ANSWERS, Text(_greedy(model, prompt, length // 2), len(prompt))


def _greedy(model: PackedCausalLM, prompt: NDArray[np.int32], num_tokens: int) -> NDArray[np.int32]:
    """Return the prompt and the most probable continuation of so many tokens."""
    slot = KvMemory(len(prompt) + num_tokens).open(len(prompt) + num_tokens)
    ids, new = list(prompt), prompt
    for _ in range(num_tokens):
        (output,) = model.forward([Block(slot, new, logits_from=len(new) - 1)])
        new = output.logits.argmax(dim=-1).numpy().astype(np.int32)
        ids += new.tolist()
    return np.asarray(ids, np.int32)


def _compared(exact: PackedCausalLM, rounded: PackedCausalLM, text: Text) -> NDArray[np.float64]:
    """Return sums over positions: their count, equal top tokens, both negative log-likelihoods, divergence."""
    sums = np.zeros(5)
    pairs = zip(_log_probs(exact, text.token_ids), _log_probs(rounded, text.token_ids), strict=True)
    for block, (own, other) in enumerate(pairs):
        positions = np.arange(block * BLOCK, block * BLOCK + len(own)) + 1  # of the tokens that the rows predict
        kept = (positions >= text.start) & (positions < len(text.token_ids))
        if not kept.any():
            continue
        mask, tokens = torch.from_numpy(kept), torch.from_numpy(text.token_ids[positions[kept]].astype(np.int64))
        own, other = own[mask], other[mask]
        same = (own.argmax(dim=-1) == other.argmax(dim=-1)).sum()
        losses = [-model.gather(1, tokens[:, None]).sum() for model in (own, other)]
        divergence = (own.exp() * (own - other)).sum()
        sums += np.array([len(own), *map(float, (same, *losses, divergence))])
    return sums


def _log_probs(model: PackedCausalLM, ids: NDArray[np.int32]) -> Iterator[Tensor]:
    """Yield log-probabilities [rows, vocab] of a text's blocks, in float64."""
    slot = KvMemory(len(ids)).open(len(ids))
    for first in range(0, len(ids), BLOCK):
        (output,) = model.forward([Block(slot, ids[first : first + BLOCK])])
        yield output.logits.double().log_softmax(dim=-1)


def _agreement(sums: Sequence[float] | NDArray[np.float64]) -> Agreement:
    count, same, loss, rounded_loss, divergence = map(float, sums)
    return Agreement(
        int(count), same / count, math.exp(loss / count), math.exp(rounded_loss / count), divergence / count
    )
