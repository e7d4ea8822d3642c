"""The prompt router: a classifier that reads the prompt and picks the drafter for the answer, instead of learning.

It is TF-IDF over character n-grams and logistic regression, from scikit-learn (`pip install 'hedgespec[figures]'`). It is
right on prompts like those it was trained on; `rewritten` prompts show what happens when it is not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hedgespec.errors import ConfigError


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
