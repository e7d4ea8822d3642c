"""Chat form of documents: what the target must have seen for `/v1/chat/completions` to make sense."""

from __future__ import annotations

from random import Random

from hedgespec.zoo.corpus import Document

Message = dict[str, str]

_SYSTEMS = ("You are a helpful assistant.", "Answer briefly.", "You are a careful assistant.")


def conversation(document: Document, rng: Random) -> list[Message]:
    """Return messages about a document: one to three of its exchanges, sometimes after a system message."""
    count = min(len(document.exchanges), rng.choice((1, 1, 2, 3)))
    messages: list[Message] = []
    if rng.random() < 0.3:
        messages.append({"role": "system", "content": rng.choice(_SYSTEMS)})
    for turn, exchange in enumerate(rng.sample(document.exchanges, count)):
        question = exchange.question
        if document.domain == "sql":
            question = f"{document.context}\n\n{question}" if turn == 0 else question
            question = rng.choice(("", "Write a SQL query. ")) + question
        elif document.domain == "json":
            question = rng.choice(("", "Write the response to this request:\n")) + question
        messages.append({"role": "user", "content": question})
        messages.append({"role": "assistant", "content": exchange.answer})
    return messages
