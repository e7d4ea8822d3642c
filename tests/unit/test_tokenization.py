"""Tokenizers from a folder, streamed text and chat templates, on tokenizers that the tests train themselves."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from hedgespec.errors import ModelFolderError, RequestError
from hedgespec.tokenization import Detokenizer, Tokenizer, chat_template
from hedgespec.tokenization.chat_template import ChatTemplate

BOS, EOS, END = "<|bos|>", "<|eos|>", "<|end|>"
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{% if m.role not in ['system', 'user', 'assistant'] %}"
    "{{ raise_exception('Roles must be system, user or assistant.') }}{% endif %}"
    "<{{ m.role }}>{{ m['content'] }}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)


def byte_level_backend() -> tokenizers.Tokenizer:
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.train_from_iterator(
        ["the quick brown fox jumps over the lazy dog, the fox"] * 4,
        trainers.BpeTrainer(
            vocab_size=300,
            special_tokens=[BOS, EOS, END],
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        ),
    )
    return backend


def word_piece_backend() -> tokenizers.Tokenizer:
    """Llama-2 style: word pieces with a leading mark, raw bytes as `<0xHH>`."""
    words = ["▁", "▁the", "▁fox", "the", "fox", "!", "a", "b"]
    vocabulary = {"<unk>": 0, **{f"<0x{i:02X}>": 1 + i for i in range(256)}}
    vocabulary |= {word: 257 + i for i, word in enumerate(words)}
    backend = tokenizers.Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>", byte_fallback=True))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    backend.add_special_tokens([EOS])
    return backend


def make_folder(path: Path, backend: tokenizers.Tokenizer | None = None, **files: Any) -> Path:
    """A model folder without weights; files: content of `<name>.json`, None leaves the file out."""
    path.mkdir(exist_ok=True)
    (backend or byte_level_backend()).save(str(path / "tokenizer.json"))
    contents = {
        "config": {"vocab_size": 320, "max_position_embeddings": 128, "eos_token_id": 1},
        "tokenizer_config": {"bos_token": BOS, "eos_token": {"content": EOS}, "chat_template": TEMPLATE},
        **files,
    }
    for name, content in contents.items():
        if content is not None:
            (path / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def byte_level(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return Tokenizer.from_folder(make_folder(tmp_path_factory.mktemp("byte_level")))


@pytest.fixture(scope="module")
def word_pieces() -> Tokenizer:
    return Tokenizer.of(word_piece_backend(), eos_token_ids=(265,), max_model_len=64, vocab_size=266)


def test_a_folder_states_vocabulary_context_and_ends(byte_level: Tokenizer) -> None:
    assert (byte_level.vocab_size, byte_level.max_model_len, byte_level.eos_token_ids) == (320, 128, (1,))
    ids = byte_level.encode("the quick fox")
    assert byte_level.decode(ids) == "the quick fox"


def test_end_tokens_come_from_the_generation_config_first_and_may_be_a_list(tmp_path: Path) -> None:
    folder = make_folder(tmp_path, generation_config={"eos_token_id": [2, 1]})
    assert Tokenizer.from_folder(folder).eos_token_ids == (2, 1)


def test_the_tokenizers_own_end_token_ends_answers_too(tmp_path: Path) -> None:
    folder = make_folder(tmp_path, generation_config={"eos_token_id": 2})
    assert Tokenizer.from_folder(folder).eos_token_ids == (2, 1)


def test_a_template_file_wins_over_the_one_in_the_config(tmp_path: Path) -> None:
    folder = make_folder(tmp_path)
    (folder / "chat_template.jinja").write_text("{{ messages[0].content }}!", encoding="utf-8")
    assert Tokenizer.from_folder(folder).render_chat([{"role": "user", "content": "hi"}]) == "hi!"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"config": None}, "config.json is missing"),
        ({"config": [1]}, "must hold a JSON object"),
        ({"config": {"vocab_size": 320}}, "no context length"),
        ({"config": {"vocab_size": True, "max_position_embeddings": 128}}, "vocab_size must be a whole number"),
        ({"config": {"vocab_size": 320, "max_position_embeddings": 0}}, "max_position_embeddings must be"),
        ({"config": {"vocab_size": 10, "max_position_embeddings": 128}}, "do not belong together"),
        ({"generation_config": {"eos_token_id": ["x"]}}, "eos_token_id must be"),
        ({"tokenizer_config": {"chat_template": "{% for %}"}}, "does not compile"),
        ({"tokenizer_config": {"chat_template": 5}}, "chat_template must be"),
    ],
)
def test_a_bad_folder_is_refused_with_the_file_named(tmp_path: Path, files: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelFolderError, match=message):
        Tokenizer.from_folder(make_folder(tmp_path, **files))


def test_a_folder_without_a_fast_tokenizer_is_refused_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(ModelFolderError, match="save_pretrained"):
        Tokenizer.from_folder(tmp_path)
    with pytest.raises(ModelFolderError, match="not a folder"):
        Tokenizer.from_folder(tmp_path / "absent")
    (tmp_path / "tokenizer.json").write_text("{", encoding="utf-8")
    with pytest.raises(ModelFolderError, match="cannot be read by the tokenizers library"):
        Tokenizer.from_folder(tmp_path)


@given(text=st.text(max_size=60), cuts=st.lists(st.integers(1, 5), max_size=30))
@settings(max_examples=150, deadline=None)
def test_streamed_text_equals_decoding_at_once_and_never_changes(
    byte_level: Tokenizer, text: str, cuts: list[int]
) -> None:
    """Every prefix that was shown is a prefix of the final text, for any text and any cut into pushes."""
    text = text.encode("utf-8", "ignore").decode()
    ids = byte_level.encode(text, add_special_tokens=False).tolist()
    detokenizer, shown, rest = Detokenizer(byte_level), "", list(ids)
    for cut in [*cuts, len(ids)]:
        shown += detokenizer.push(rest[:cut])
        rest = rest[cut:]
        assert text.startswith(shown)
    assert shown + detokenizer.finish() == text == byte_level.decode(ids)


@given(ids=st.lists(st.integers(0, 319), max_size=40))
@settings(max_examples=150, deadline=None)
def test_any_ids_at_all_stream_to_the_same_text_however_they_are_cut(byte_level: Tokenizer, ids: list[int]) -> None:
    """Random ids are mostly broken UTF-8, special tokens and padded rows."""
    at_once, one_by_one = Detokenizer(byte_level), Detokenizer(byte_level)
    whole = at_once.push(ids) + at_once.finish()
    assert "".join(one_by_one.push([i]) for i in ids) + one_by_one.finish() == whole
    in_tokenizer = [i for i in ids if i <= byte_level.pieces.largest_id]
    assert whole == byte_level.decode(in_tokenizer, skip_special_tokens=True)


def test_half_a_character_waits_for_the_rest_of_its_bytes(byte_level: Tokenizer) -> None:
    ids = byte_level.encode("é", add_special_tokens=False).tolist()
    assert len(ids) == 2
    detokenizer = Detokenizer(byte_level)
    assert detokenizer.push(ids[:1]) == ""
    assert detokenizer.push(ids[1:]) == "é"
    detokenizer.push(ids[:1])
    assert detokenizer.finish() == "�"


def test_word_pieces_and_byte_tokens_stream_as_they_decode(word_pieces: Tokenizer) -> None:
    text = "the fox! aé€ the  fox"
    ids = word_pieces.encode(text).tolist()
    detokenizer = Detokenizer(word_pieces)
    pieces = [detokenizer.push([i]) for i in ids]
    assert "".join(pieces) + detokenizer.finish() == text == word_pieces.decode(ids)
    assert "�" not in "".join(pieces)


def test_an_answers_first_word_keeps_its_space_when_the_prompt_is_known(word_pieces: Tokenizer) -> None:
    prompt, answer = word_pieces.encode("the").tolist(), [word_pieces.backend.token_to_id("▁fox")]
    assert Detokenizer(word_pieces).push(answer) == "fox"
    assert Detokenizer(word_pieces, prompt).push(answer) == " fox"


def test_a_byte_that_no_later_byte_can_save_is_shown_at_once_and_stays(word_pieces: Tokenizer) -> None:
    """The library would turn the whole run of bytes into replacement characters afterwards."""
    detokenizer = Detokenizer(word_pieces)
    shown = detokenizer.push([1 + b for b in "你".encode()])
    assert shown == "你"
    assert shown + detokenizer.push([1 + 0xFF]) == "你�"


def test_a_byte_level_decoder_with_company_is_refused() -> None:
    backend = byte_level_backend()
    backend.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Replace("a", "b")])
    with pytest.raises(ModelFolderError, match="not supported"):
        Tokenizer.of(backend, eos_token_ids=(), max_model_len=8, vocab_size=400)


@given(
    word=st.sampled_from(["the fox ", "a", " ", "\n  ", "é", "dog, "]),
    times=st.integers(0, 1500),
    limit=st.integers(1, 400),
)
@settings(max_examples=60, deadline=None)
def test_a_text_is_called_too_long_only_if_it_is(byte_level: Tokenizer, word: str, times: int, limit: int) -> None:
    text = word * times
    if byte_level.is_surely_longer(text, limit):
        assert len(byte_level.encode(text)) > limit


def test_a_very_long_text_is_called_too_long_from_its_beginning(byte_level: Tokenizer) -> None:
    """The text is refused in less than half the time of tokenizing it; measured around a hundredth."""
    text = "xyz " * (1 << 16)
    started = time.process_time()
    assert byte_level.is_surely_longer(text, 128)
    quick_s = time.process_time() - started
    byte_level.encode(text)
    assert quick_s < (time.process_time() - started - quick_s) / 2


def test_a_chat_is_rendered_with_the_folders_template_and_special_tokens(byte_level: Tokenizer) -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}]
    assert byte_level.render_chat(messages) == f"{BOS}<system>Be brief.<user>hi<assistant>"
    assert byte_level.apply_chat_template(messages)[0] == 0


def test_text_in_a_message_is_never_run_as_a_template(byte_level: Tokenizer) -> None:
    assert "{{ 6 * 7 }}" in byte_level.render_chat([{"role": "user", "content": "{{ 6 * 7 }}"}])


def test_a_template_that_refuses_says_why_in_its_own_words_only(byte_level: Tokenizer) -> None:
    with pytest.raises(RequestError, match="Roles must be system, user or assistant"):
        byte_level.render_chat([{"role": "tool", "content": "x"}])
    echoing = ChatTemplate("{{ raise_exception('bad: ' + messages[0].content) }}", {})
    with pytest.raises(RequestError) as caught:
        echoing.render([{"role": "user", "content": "secret"}])
    assert "secret" not in str(caught.value)


def test_a_folder_without_a_template_points_to_completions(word_pieces: Tokenizer) -> None:
    with pytest.raises(RequestError, match="/v1/completions"):
        word_pieces.apply_chat_template([{"role": "user", "content": "x"}])


@pytest.mark.parametrize(
    "source",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{{ 'x' * 999999999 }}",
        "{{ 9 ** 999999999 }}",
        "{% for a in range(99999) %}{{ messages[0].content * 99 }}{% endfor %}",
    ],
)
def test_a_greedy_template_is_stopped(monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    monkeypatch.setattr(chat_template, "MAX_RENDER_CPU_S", 0.1)
    with pytest.raises(RequestError, match="takes too long or writes too much"):
        ChatTemplate(source, {}).render([{"role": "user", "content": "x" * 100}])


@pytest.mark.parametrize(
    "source", ["{{ ''.__class__.__mro__ }}", "{{ messages.append(1) }}", "{{ messages.__init__.__globals__ }}"]
)
def test_a_template_cannot_reach_python_or_change_its_input(source: str) -> None:
    with pytest.raises(RequestError, match="cannot render"):
        ChatTemplate(source, {}).render([{"role": "user", "content": "x"}])


def test_published_template_features_render_as_in_transformers() -> None:
    """Loop controls, generation blocks, JSON without HTML escapes, and block lines that leave no blank line."""
    source = (
        "{%- for m in messages %}\n    {%- if loop.index > 1 %}{% break %}{% endif %}\n"
        "    {% generation %}\n{{ m | tojson }}\n    {% endgeneration %}\n{% endfor %}"
    )
    rendered = ChatTemplate(source, {}).render([{"content": "<é>"}, {"content": "no"}])
    assert rendered == '{"content": "<é>"}\n'
