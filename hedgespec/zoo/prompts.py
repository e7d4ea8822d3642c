"""Cut prompts from documents at points where a reader expects the text to go on."""

from __future__ import annotations

import re
from random import Random

from tokenizers import Tokenizer

from hedgespec.zoo.corpus import Document, Split, documents

_MIN_TOKENS, _MAX_TOKENS = 40, 120
_MIN_REST = 700  # characters that the document goes on for: a long continuation must make sense
_STARTS = {
    "python": r"^(?:@\w.*\n)?(?:def|class|async def) ",
    "c": r"(?<=\n\n)(?=[#/\w])",
    "prose": r"(?<=\n\n)(?=[A-Z#])|\A",
}


def held_out_prompts(tokenizer: Tokenizer, domain: str, split: Split, *, seed: int, count: int) -> list[str]:
    """Cut `count` prompts of 40 to 120 tokens from held-out documents, one from each before a second from any."""
    pool = documents(domain, split, seed=seed, max_bytes=30_000 * count)
    return cut_prompts(tokenizer, pool, Random(f"prompts-{seed}-{domain}-{split}"), count)


def cut_prompts(tokenizer: Tokenizer, pool: list[Document], rng: Random, count: int) -> list[str]:
    """Cut up to `count` different prompts of 40 to 120 tokens, from each document of a pool in turn."""
    long_enough = [document for document in pool if len(document.text) >= 2 * _MIN_REST]
    prompts: list[str] = []
    for _ in range(8):
        for document in rng.sample(long_enough, len(long_enough)):
            prompt = _cut(tokenizer, document, rng)
            if prompt is not None and prompt not in prompts:
                prompts.append(prompt)
            if len(prompts) == count:
                return prompts
    return prompts


def _cut(tokenizer: Tokenizer, document: Document, rng: Random) -> str | None:
    """Return a piece that starts at a definition or paragraph and ends at a line end, or None when there is none."""
    text = document.text
    pattern = _STARTS.get(document.domain)
    starts = [m.start() for m in re.finditer(pattern, text, re.MULTILINE)] if pattern else [0]
    starts = [s for s in starts if s + _MIN_REST + 200 <= len(text)]
    if not starts:
        return None
    start = rng.choice(starts)
    # cut before the newline: it is one token with the indentation after it, which the continuation must choose
    line_ends = [m.start() for m in re.finditer(r"\n", text[start : start + 800])]
    fitting = [end for end in line_ends if _fits(tokenizer, text[start : start + end], len(text) - start - end)]
    return text[start : start + rng.choice(fitting)] if fitting else None


def _fits(tokenizer: Tokenizer, prompt: str, rest: int) -> bool:
    length = len(tokenizer.encode(prompt, add_special_tokens=False).ids)
    return _MIN_TOKENS <= length <= _MAX_TOKENS and rest >= _MIN_REST and not prompt.endswith("\n")
