"""The first stage of a build: choose the documents, train the tokenizer, write the token streams."""

from __future__ import annotations

from pathlib import Path
from random import Random

import numpy as np
from tokenizers import Tokenizer

from hedgespec.zoo import DOMAINS
from hedgespec.zoo.corpus import Document, documents
from hedgespec.zoo.dataset import encode_stream, training_texts
from hedgespec.zoo.tokenizer import save_tokenizer, train_tokenizer

_SHARE = {"python": 0.24, "c": 0.24, "prose": 0.24, "sql": 0.09, "arithmetic": 0.09, "json": 0.10}


def training_documents(domain: str, *, seed: int, train_bytes: int) -> list[Document]:
    """Choose a domain's documents for a training mix of `train_bytes`."""
    return documents(domain, "train", seed=seed, max_bytes=int(train_bytes * _SHARE[domain]))


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
