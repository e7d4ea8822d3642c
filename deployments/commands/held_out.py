"""The zoo's held-out prompts, the same ones in every benchmark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import typer
from numpy.typing import NDArray

from hedgespec import zoo
from hedgespec.tokenization import Tokenizer

PromptIds = dict[str, list[NDArray[np.int32]]]
"""domain -> prompts as token ids"""


def held_out_texts(domains: Sequence[str] | None, count: int) -> dict[str, list[str]]:
    """Return `count` prompts of each domain, or of all domains. Raises BadParameter for an unknown domain."""
    unknown = sorted(set(domains or ()) - set(zoo.DOMAINS))
    if unknown:
        raise typer.BadParameter(f"no such domain: {unknown}; there are {list(zoo.DOMAINS)}")
    return {domain: zoo.held_out_prompts(domain)[:count] for domain in domains or zoo.DOMAINS}


def encoded(tokenizer: Tokenizer, texts: Mapping[str, Sequence[str]]) -> PromptIds:
    """Encode the texts of each domain."""
    return {domain: [tokenizer.encode(text) for text in row] for domain, row in texts.items()}


def num_prompts(work: Mapping[str, Sequence[object]]) -> int:
    """Count the prompts of all domains."""
    return sum(map(len, work.values()))
