"""The card of SmolLM2's heads: README.md beside the weights, with what they learned from and how well they draft."""

from __future__ import annotations

import json

from hedgespec.training.conversations import NUM_LIKELIEST
from hedgespec.zoo.acceptance_table import MARKER, kept_table
from hedgespec.zoo.smollm2 import DOMAINS
from hedgespec.zoo.smollm2.settings import HeadsSettings

_QUESTIONS = {
    "code": "functions, classes and scripts to write, code to explain, some of it from Python's own library",
    "sql": "schemas and questions to answer with a query",
    "arithmetic": "word problems to solve step by step",
    "json": "text to turn into JSON, objects to write, functions to call",
    "prose": "stories, letters, essays, poems, advice",
    "qa": "short questions about the world",
    "translation": "sentences of a small lexicon, English, German, French and Spanish",
    "documents": "passages to summarise and to answer from: generated news and reports, Python's documentation",
}


def write_card(settings: HeadsSettings) -> None:
    """Write the card of a build; an acceptance table that is already in it is kept."""
    path = settings.out / "README.md"
    minutes = json.loads((settings.work / "minutes.json").read_text(encoding="utf-8"))
    path.write_text(_card(settings, minutes, kept_table(path)), encoding="utf-8")


def _card(settings: HeadsSettings, minutes: dict[str, float], table: str) -> str:
    rows = "\n".join(f"| {domain} | {_QUESTIONS[domain]} |" for domain in DOMAINS)
    own_text = sum(m for stage, m in minutes.items() if stage.startswith("conversations"))
    training = sum(minutes.values()) - own_text
    num_tokens = settings.rounds * settings.num_windows * settings.length
    generic, expert = settings.generic, settings.expert
    tokens_per_step = generic.sequences_per_step * settings.length
    return f"""# Draft heads for SmolLM2-135M-Instruct

Nine EAGLE-3 heads for the published model SmolLM2-135M-Instruct (Apache-2.0; it is fetched separately):
`generic` for everything and one expert for each of eight domains. Each is {_size(settings):.1f} MB: matrices in int8, and
the output rows are the target's own, which are not stored again.

Built by `hedgespec zoo build --target smollm2`, seed {settings.seed}. It took {own_text:.0f} minutes to let the target write
and {training:.0f} minutes to train, on a machine that other work shared.

## Data

SmolLM2's own answers to generated questions: {num_tokens // 1000} k tokens of conversations per domain, questions
included, in windows of {settings.length} tokens that begin with a chat's beginning; temperatures 0 (half of them), 0.7
and 1. Heads learn from the answers alone. No question of a public benchmark is among them.

| domain | questions |
| --- | --- |
{rows}

## Recipe

- The published EAGLE-3 architecture with a feed-forward layer of {generic.intermediate_size or 1536} and
  {generic.draft_vocab_size} drafted tokens (those that the answers use most); output rows frozen.
- `generic`: from random weights, {generic.steps} steps of {tokens_per_step} tokens over all domains.
- Experts: copies of `generic`, {expert.steps} more steps over their own domain alone.
- Training-time test with {generic.num_depths} unrolled steps, loss weights {generic.depth_decay}^i, soft
  cross-entropy against the target's {NUM_LIKELIEST} likeliest tokens renormalised over the drafted ones; Muon
  ({generic.matrix_lr:g}, experts {expert.matrix_lr:g}) for the matrices, AdamW for the norms.

## Acceptance

Mean emitted tokens per target pass on held-out questions, measured by `hedgespec bench acceptance --model
smollm2 --card` through the real decode loop.

{MARKER}
{table}
{MARKER}
"""


def _size(settings: HeadsSettings) -> float:
    return (settings.out / "generic" / "model.safetensors").stat().st_size / 1e6
