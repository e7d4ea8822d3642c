"""Write the zoo's model card: README.md beside the weights."""

from __future__ import annotations

from collections.abc import Mapping

from hedgespec.zoo import DOMAINS
from hedgespec.zoo.acceptance_table import MARKER, kept_table
from hedgespec.zoo.settings import ZooSettings

_SOURCES = {
    "python": "standard library of the interpreter that built it, its test package included",
    "c": "C headers of Python, NumPy and the system",
    "prose": "`pydoc_data` topics, docstrings of the standard library and of installed packages",
    "sql": "generated: schemas, questions and SQLite queries",
    "arithmetic": "generated: multi-step word problems with written-out reasoning",
    "json": "generated: API requests and JSON responses",
}


Losses = Mapping[str, tuple[float, float]]
"""domain -> (nats per token, bits per byte) of the target, on documents that it was not trained on"""


def write_card(settings: ZooSettings, num_parameters: int, steps: int, minutes: float, losses: Losses) -> None:
    """Write the card of a build; an acceptance table that is already in it is kept.

    num_parameters, steps, minutes: of the target and its training
    """
    path = settings.out / "README.md"
    card = _card(settings, num_parameters, steps, minutes, losses, kept_table(path))
    path.write_text(card, encoding="utf-8")


def _card(settings: ZooSettings, num_parameters: int, steps: int, minutes: float, losses: Losses, table: str) -> str:
    rows = "\n".join(f"| {d} | {_SOURCES[d]} | {losses[d][0]:.2f} | {losses[d][1]:.2f} |" for d in DOMAINS)
    target, drafter = settings.target, settings.drafter
    head_width = drafter.intermediate_size or target.intermediate_size
    drafter_tokens = drafter.steps * drafter.sequences_per_step * drafter.sequence_length
    own_tokens = drafter.num_own_windows * (drafter.sequence_length - drafter.max_prompt_length)
    return f"""# The HedgeSpec zoo

A Llama-shaped target of {num_parameters / 1e6:.1f} M parameters and seven EAGLE-3 heads for it: `generic` and one
expert for each of six domains. They exist to show and test speculative decoding with several drafters on any machine.
They are far too small to be useful for their text: the target's sentences are fluent at best, its facts and sums often
wrong.

Built by `hedgespec zoo build`, seed {settings.seed}, from text that a machine with Python has or generates; nothing is
downloaded. The generated domains are the same everywhere; the others depend on the Python version and on what is
installed. One seed fixes data, initial weights and order; a target whose training ends by the clock (`--target-minutes`)
or is interrupted differs from run to run all the same.

## Data and held-out loss of the target

Documents are assigned to training, validation and test by a hash of their name. Losses are on validation documents.

| domain | source | nats/token | bits/byte |
| --- | --- | --- | --- |
{rows}

## Recipe

- Tokenizer: byte-level BPE, 4096 tokens, digits apart, a space joined to the word after it; chat template with
  `<|system|>`, `<|user|>`, `<|assistant|>` and `<|end|>`. Chats about the documents are part of the mix.
- Target: {steps} steps, {steps * target.tokens_per_step / 1e6:.1f} M tokens, sequences of 256, then 512, at last 2048
  tokens; Muon (0.02) for the hidden matrices, AdamW (0.004) for the rest, bfloat16 autocast; warm-up over 2 %, constant,
  linear decay to zero over the last 55 %. It took {minutes:.0f} minutes.
- Heads: the published EAGLE-3 architecture with a feed-forward layer of {head_width};
  {drafter.steps} steps, {drafter_tokens / 1e3:.0f} k tokens each, from one common start whose output rows are
  the target's embedding of the head's {drafter.draft_vocab_size} most frequent tokens. Small on purpose: quick on a CPU,
  and one domain is easier to know than six. Training-time test with five unrolled steps, loss weights 0.8^i, soft
  cross-entropy against the target renormalised over the draft vocabulary.
- Data of a head: {drafter.own_text_share:.0%} text that the target wrote itself, at least {own_tokens / 1e3:.0f} k tokens
  per domain, continuing prompts cut from training documents as the held-out ones are, at temperatures 0, 0.7 and 1; the
  rest is domain text.
  `generic` has the same steps and tokens, from all domains in equal parts.

## Acceptance

Read temperature 0 with care: a target this small falls into loops when it continues code and prose greedily, which makes
its text easy to draft. Temperature 1 shows the text it has really learned.

Mean emitted tokens per target pass on held-out prompts, measured by `hedgespec bench acceptance --card` through the real
decode loop.

{MARKER}
{table}
{MARKER}
"""
