"""The zoo's tokenizer loads in both libraries and its chats are rendered as its template says."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import pytest
from tokenizers import Tokenizer

from hedgespec.errors import ConfigError
from hedgespec.zoo.acceptance_table import write_acceptance_table
from hedgespec.zoo.card import write_card
from hedgespec.zoo.corpus import documents
from hedgespec.zoo.dataset import conversation, pieces
from hedgespec.zoo.prompts import held_out_prompts
from hedgespec.zoo.settings import ZooSettings
from hedgespec.zoo.tokenizer import CHAT_TEMPLATE, SPECIAL_TOKENS, render_chat, save_tokenizer, train_tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    texts = [d.text for domain in ("sql", "json") for d in documents(domain, "train", seed=0, max_bytes=60_000)]
    save_tokenizer(train_tokenizer(texts, 600), folder)
    return folder


def test_every_text_survives_encoding_and_decoding(folder: Path) -> None:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    for text in (
        "def f(x):\n    return  x\n\n",
        "  leading",
        "tabs\tand é 漢字 🙂",
        "1234567 + 89 = 1234656",
        "\n\n\n  \n",
    ):
        assert tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False) == text


def test_special_tokens_have_the_ids_of_the_target_and_digits_stand_alone(folder: Path) -> None:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert [tokenizer.token_to_id(t) for t in SPECIAL_TOKENS] == list(range(len(SPECIAL_TOKENS)))
    assert tokenizer.encode("2024").tokens == ["2", "0", "2", "4"]


def test_rendered_chats_equal_the_template(folder: Path) -> None:
    jinja2 = pytest.importorskip("jinja2")
    messages = conversation(documents("sql", "train", seed=0, max_bytes=100)[0], Random(0))
    template = jinja2.Template(CHAT_TEMPLATE)
    rendered = template.render(messages=messages, bos_token="<|bos|>", add_generation_prompt=False)
    assert rendered == render_chat(messages)
    assert json.loads((folder / "tokenizer_config.json").read_text())["chat_template"] == CHAT_TEMPLATE


def test_pieces_of_a_long_document_join_to_the_document() -> None:
    document = max(documents("python", "test", seed=0, max_bytes=200_000), key=lambda d: len(d.text))
    joined = "".join(pieces(document))
    assert joined == f"<|bos|>{document.text}<|eos|>"


def test_prompts_come_from_held_out_documents_and_have_room_to_go_on(folder: Path) -> None:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    held_out = documents("sql", "test", seed=0, max_bytes=300_000)
    prompts = held_out_prompts(tokenizer, "sql", "test", seed=0, count=10)
    assert len(set(prompts)) == 10
    for prompt in prompts:
        assert 40 <= len(tokenizer.encode(prompt).ids) <= 120
        assert any(prompt in d.text and len(d.text) - len(prompt) >= 700 for d in held_out)


def test_acceptance_table_is_replaced_and_survives_a_new_card(tmp_path: Path) -> None:
    losses = dict.fromkeys(("python", "c", "prose", "sql", "arithmetic", "json"), (1.0, 0.5))
    with pytest.raises(ConfigError):
        write_acceptance_table("| a |", tmp_path)
    write_card(ZooSettings(tmp_path), 1, 1, 1.0, losses)
    write_acceptance_table("| first |", tmp_path)
    write_acceptance_table("| second |", tmp_path)
    write_card(ZooSettings(tmp_path), 1, 1, 1.0, losses)
    card = (tmp_path / "README.md").read_text()
    assert "| second |" in card
    assert "| first |" not in card
