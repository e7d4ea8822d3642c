"""Tokenizers rebuilt from GGUF files cut text as the file's pre-tokenizer does and give every text back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hedgespec.assembly.model_cache import converted_folder
from hedgespec.tokenization import Tokenizer
from tests.gguf_files import SPECIAL, byte_tokens, write_gguf
from tests.model_folders import VOCAB_SIZE, make_llama


@pytest.fixture
def tokenizer(tmp_path: Path, request: pytest.FixtureRequest) -> Tokenizer:
    """The tokenizer of a file with these changes to its metadata."""
    path = tmp_path / "tiny.gguf"
    tokens = request.param.get("tokenizer.ggml.tokens", ())
    folder = make_llama(tmp_path / "llama", vocab_size=max(VOCAB_SIZE, len(tokens)))
    write_gguf(folder, path, metadata=request.param)
    return Tokenizer.from_folder(converted_folder(path, tmp_path / "state"))


def pieces(tokenizer: Tokenizer, text: str) -> list[str]:
    return [tokenizer.backend.id_to_token(int(i)) for i in tokenizer.encode(text)]


CASES: list[tuple[str, list[str]]] = [
    ("smollm", ["th", "in", "ĠĠ", "1", "2"]),  # digits stand alone, and the spaces before them stay together
    ("gpt-2", ["th", "in", "Ġ", "Ġ", "12"]),
    ("qwen2", ["th", "in", "Ġ", "Ġ", "1", "2"]),
    ("llama-bpe", ["<|im_start|>", "th", "in", "Ġ", "Ġ", "12"]),  # up to three digits together; BOS by default
]


@pytest.mark.parametrize(
    ("tokenizer", "expected"),
    [({"tokenizer.ggml.pre": pre}, expected) for pre, expected in CASES],
    indirect=["tokenizer"],
    ids=[pre for pre, _ in CASES],
)
def test_text_is_cut_as_the_file_says(tokenizer: Tokenizer, expected: list[str]) -> None:
    assert pieces(tokenizer, "thin  12") == expected


@pytest.mark.parametrize("tokenizer", [{"tokenizer.ggml.add_bos_token": True}], indirect=True)
def test_special_tokens_template_and_ends_come_from_the_file(tokenizer: Tokenizer) -> None:
    assert tokenizer.eos_token_ids == (2,)
    assert pieces(tokenizer, "a<|im_end|>b") == ["<|im_start|>", "a", "<|im_end|>", "b"]
    rendered = tokenizer.render_chat([{"role": "user", "content": "the 12"}])
    assert rendered == "<|im_start|>user\nthe 12<|im_end|>\n<|im_start|>assistant\n"
    ids = tokenizer.apply_chat_template([{"role": "user", "content": "the 12"}])
    assert tokenizer.decode(ids) == rendered
    assert list(ids[:1]) == [SPECIAL.index("<|im_start|>")]


@pytest.mark.parametrize(
    "tokenizer", [{"tokenizer.ggml.eot_token_id": byte_tokens().index("<unused0>")}], indirect=True
)
def test_the_end_of_a_turn_ends_an_answer(tokenizer: Tokenizer) -> None:
    assert len(tokenizer.eos_token_ids) == 2


def sentence_pieces() -> dict[str, Any]:
    """A vocabulary in the manner of Llama 2: bytes, letters, and words whose scores fall with their rank."""
    words = ["▁", *"helo", "▁h", "el", "lo", "▁hel", "▁hello"]
    scores = [0.0] * (3 + 256 + 5) + [-float(rank) for rank in range(len(words) - 5)]
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": None,
        "tokenizer.ggml.merges": None,
        "tokenizer.ggml.tokens": ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *words],
        "tokenizer.ggml.scores": scores,
        "tokenizer.ggml.token_type": [2, 3, 3] + [6] * 256 + [1] * len(words),
    }


@pytest.mark.parametrize("tokenizer", [sentence_pieces()], indirect=True)
def test_sentence_pieces_merge_by_score_and_fall_back_to_bytes(tokenizer: Tokenizer) -> None:
    assert pieces(tokenizer, "hello hé") == ["<s>", "▁hello", "▁h", "<0xC3>", "<0xA9>"]
    assert tokenizer.decode(tokenizer.encode("hello hé", add_special_tokens=False)) == "hello hé"
    assert pieces(tokenizer, "<s>hello")[:2] == ["<s>", "<s>"]
