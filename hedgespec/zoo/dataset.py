"""Make the zoo's token streams: documents and chats of all domains, shuffled and packed end to end."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from hedgespec.zoo.corpus import Document
from hedgespec.zoo.tokenizer import BOS, EOS, render_chat

Tokens = NDArray[np.uint16]
Message = dict[str, str]

_SYSTEMS = ("You are a helpful assistant.", "Answer briefly.", "You are a careful assistant.")
_MAX_CHARS = 16_000
_CHAT_SHARE = {"python": 0.06, "c": 0.06, "prose": 0.25, "sql": 0.3, "arithmetic": 0.3, "json": 0.3}


def training_texts(documents: list[Document], seed: int) -> list[str]:
    """Cut documents to pieces of at most 16,000 characters, add chats about some of them, and shuffle."""
    rng = Random(f"mix-{seed}")
    texts: list[str] = []
    for document in documents:
        texts.extend(pieces(document))
        if document.exchanges and rng.random() < _CHAT_SHARE[document.domain]:
            texts.append(render_chat(conversation(document, rng)) + EOS)
    rng.shuffle(texts)
    return texts


def conversation(document: Document, rng: Random) -> list[Message]:
    """Make a chat about a document, so that the target learns the form of `/v1/chat/completions`.

    It has one to three of the document's exchanges, sometimes after a system message.
    """
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


def pieces(document: Document) -> Iterator[str]:
    """Cut a document at line ends; only its first piece starts with BOS and only its last ends with EOS."""
    text, start = document.text, 0
    while start < len(text):
        end = len(text) if len(text) - start <= _MAX_CHARS else text.rfind("\n", start, start + _MAX_CHARS) + 1
        end = end if end > start else start + _MAX_CHARS
        yield (BOS if start == 0 else "") + text[start:end] + (EOS if end == len(text) else "")
        start = end


def encode_stream(tokenizer: Tokenizer, texts: list[str]) -> Tokens:
    """Encode texts and join them end to end, [num_tokens]."""
    encoded = tokenizer.encode_batch(texts, add_special_tokens=False)
    return np.concatenate([np.asarray(e.ids, dtype=np.uint16) for e in encoded])


def windows(tokens: Tokens, length: int) -> Tokens:
    """Cut a stream into [num_windows, length]; what does not fill the last window is left out."""
    count = len(tokens) // length
    return tokens[: count * length].reshape(count, length)
