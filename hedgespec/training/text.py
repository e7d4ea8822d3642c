"""Read a drafter's training text from a file or folder, encode it with the target's tokenizer and cut it to windows."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from hedgespec.errors import ConfigError

Windows = NDArray[np.int64]  # [num_windows, length]

_READ_SUFFIXES = {".txt", ".md", ".rst", ".csv", ".json", ".sql", ".html", ".js", ".ts", ".py", ".c", ".h", ".java", ".go",
                  ".rs", ".jsonl"}  # fmt: skip


def read_documents(path: Path, max_bytes: int, seed: int) -> list[str]:
    """Return the documents below a path, shuffled by the seed, until `max_bytes`.

    A file is one document; a .jsonl file has one per line, the `text` of an object. A folder is read recursively.
    Raises ConfigError when there is no readable text.
    """
    if not path.exists():
        raise ConfigError(f"No training text at {path}.")
    files = (
        [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.suffix in _READ_SUFFIXES and p.is_file())
    )
    Random(f"documents-{seed}").shuffle(files)
    documents: list[str] = []
    size = 0
    for file in files:
        for text in _texts(file):
            documents.append(text)
            size += len(text)
            if size >= max_bytes:
                return documents
    if not documents:
        raise ConfigError(f"No readable text in {path}: looked for {', '.join(sorted(_READ_SUFFIXES))}.")
    return documents


def text_windows(tokenizer: Tokenizer, documents: list[str], eos_id: int, length: int, seed: int) -> Windows:
    """Encode documents, join them with EOS and cut them into shuffled windows, [num_windows, length].

    Raises ConfigError when the text is shorter than one window.
    """
    encoded = tokenizer.encode_batch(documents, add_special_tokens=False)
    stream = np.concatenate([np.asarray([*e.ids, eos_id], dtype=np.int64) for e in encoded])
    count = len(stream) // length
    if count == 0:
        raise ConfigError(f"The training text has {len(stream)} tokens; at least {length} are needed.")
    windows: Windows = stream[: count * length].reshape(count, length)
    return windows[np.random.default_rng(seed).permutation(count)]


def _texts(file: Path) -> list[str]:
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file} is not UTF-8 text: {error}.") from error
    if file.suffix != ".jsonl":
        return [text] if text.strip() else []
    try:
        return [json.loads(line)["text"] for line in text.splitlines() if line.strip()]
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{file} must have one JSON object with a 'text' per line: {error!r}.") from error
