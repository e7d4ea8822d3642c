"""The prompt router, which picks a drafter by the prompt instead of learning, and prompts that no classifier can know.

The router is TF-IDF over character n-grams and logistic regression, from scikit-learn (`pip install 'hedgespec[figures]'`).
It is right on prompts like those it was trained on; `rewritten` prompts show what happens when it is not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle, islice
from typing import Any

from hedgespec.bench.answers import rotated
from hedgespec.errors import ConfigError

OUT_OF_DOMAIN = (
    "server:\n  listen: 127.0.0.1\n  port: 8080\nlogging:\n  level: info\n  rotate:\n    every: 24h\n    keep: 7\nqueues:\n",
    "<!doctype html>\n<html>\n<head>\n<title>Harbour</title>\n<style>\nbody { margin: 2em; color: #222; }\n.card {\n",
    '#!/bin/sh\nset -eu\nfor file in *.log; do\n  if [ -s "$file" ]; then\n    gzip -9 "$file"\n  fi\ndone\n',
    "\\section{Bounds}\nLet $X_1, ..., X_n$ be independent with $|X_i| \\le 1$. Then for all $t > 0$\n\\begin{equation}\n",
    "Monday 07:10 ferry to the island, rain until noon. Lunch with Aino at the mill; she has sold the boat. Tuesday",
    "(define (fold f init xs)\n  (if (null? xs)\n      init\n      (fold f (f init (car xs)) (cdr xs))))\n\n(define (",
)
"""Other languages and formats than those that the zoo's drafters were trained for."""


class PromptRouter:
    """A classifier from a prompt to its domain."""

    def __init__(self, pipeline: Any) -> None:
        self._pipeline = pipeline

    @staticmethod
    def train(prompts: Mapping[str, Sequence[str]], seed: int = 0) -> PromptRouter:
        """Train on examples by domain. Raises ConfigError when scikit-learn is not installed."""
        try:
            from sklearn.feature_extraction.text import TfidfVectorizer
            from sklearn.linear_model import LogisticRegression
            from sklearn.pipeline import make_pipeline
        except ImportError as error:
            raise ConfigError("The prompt router needs scikit-learn: pip install 'hedgespec[figures]'.") from error
        texts = [text for examples in prompts.values() for text in examples]
        labels = [domain for domain, examples in prompts.items() for _ in examples]
        vectorizer = TfidfVectorizer(analyzer="char", ngram_range=(1, 4), sublinear_tf=True)
        pipeline = make_pipeline(vectorizer, LogisticRegression(C=10.0, max_iter=1000, random_state=seed))
        pipeline.fit(texts, labels)
        return PromptRouter(pipeline)

    def domain(self, prompt: str) -> str:
        """Return the most probable domain of a prompt."""
        return str(self._pipeline.predict([prompt])[0])

    def accuracy(self, prompts: Mapping[str, Sequence[str]]) -> float:
        """Return the share of prompts that are assigned to their own domain. prompts: by domain."""
        pairs = [(domain, text) for domain, examples in prompts.items() for text in examples]
        return sum(self.domain(text) == domain for domain, text in pairs) / len(pairs)


def rewritten(prompts: Mapping[str, Sequence[str]], context: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Put a longer document of the next domain before each prompt, as retrieval or a conversation would.

    The target continues the prompt; a classifier mostly sees the document.
    context: domain -> documents that no prompt comes from
    """
    domains = list(prompts)
    return {
        domain: [
            _document(context[domains[(position + 1) % len(domains)]], index, 2 * len(prompt)) + "\n\n" + prompt
            for index, prompt in enumerate(prompts[domain])
        ]
        for position, domain in enumerate(domains)
    }


def _document(texts: Sequence[str], index: int, num_characters: int) -> str:
    """Join whole texts, from `index` on, until they are long enough."""
    document = ""
    for offset in range(len(texts)):
        if len(document) >= num_characters:
            break
        document += ("\n\n" if document else "") + texts[(index + offset) % len(texts)]
    return document


def mixed(prompts: Mapping[str, Sequence[str]], count: int) -> list[str]:
    """Make `count` prompts, each a prompt of one domain followed by one of another domain."""
    domains = list(prompts)
    pairs = [(a, b) for shift in range(1, len(domains)) for a, b in zip(domains, rotated(domains, shift), strict=True)]
    return [
        f"{prompts[a][index % len(prompts[a])]}\n{prompts[b][index % len(prompts[b])]}"
        for index, (a, b) in enumerate(islice(cycle(pairs), count))
    ]
