"""Make the zoo's tokenizer and token streams: documents and chats of all domains, shuffled and packed end to end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from hedgespec.zoo import DOMAINS
from hedgespec.zoo.corpus import Document, documents
from hedgespec.zoo.tokenizer import BOS, EOS, render_chat, save_tokenizer, train_tokenizer

Tokens = NDArray[np.uint16]
Message = dict[str, str]

_SYSTEMS = ("You are a helpful assistant.", "Answer briefly.", "You are a careful assistant.")
_MAX_CHARS = 16_000
_MIX_SHARE = {"python": 0.24, "c": 0.24, "prose": 0.24, "sql": 0.09, "arithmetic": 0.09, "json": 0.10}
_CHAT_SHARE = {"python": 0.06, "c": 0.06, "prose": 0.25, "sql": 0.3, "arithmetic": 0.3, "json": 0.3}


def training_documents(domain: str, *, seed: int, train_bytes: int) -> list[Document]:
    """Choose a domain's documents for a training mix of `train_bytes`."""
    return documents(domain, "train", seed=seed, max_bytes=int(train_bytes * _MIX_SHARE[domain]))


def prepare(folder: Path, *, seed: int, train_bytes: int, held_out_bytes: int, vocab_size: int) -> Tokenizer:
    """Write tokenizer files, `train.npy` and `validation-<domain>.npy` into a folder, unless they exist."""
    if (folder / "prepared").is_file():
        return Tokenizer.from_file(str(folder / "tokenizer.json"))
    chosen = [training_documents(domain, seed=seed, train_bytes=train_bytes) for domain in DOMAINS]
    texts = training_texts([document for part in chosen for document in part], seed)
    tokenizer = train_tokenizer(Random(seed).sample(texts, len(texts) // 2), vocab_size)
    save_tokenizer(tokenizer, folder)
    np.save(folder / "train.npy", encode_stream(tokenizer, texts))
    for domain in DOMAINS:
        held_out = documents(domain, "validation", seed=seed, max_bytes=held_out_bytes)
        np.save(folder / f"validation-{domain}.npy", encode_stream(tokenizer, training_texts(held_out, seed)))
    (folder / "prepared").touch()
    return tokenizer


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
