"""Conversations hold what the target really computes for their text, and heads can be trained on them alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from hedgespec.errors import ConfigError
from hedgespec.models.causal_lm.block import Block
from hedgespec.models.causal_lm.folder import load_causal_lm
from hedgespec.models.causal_lm.packed import PackedCausalLM
from hedgespec.models.memory.kv_memory import KvMemory
from hedgespec.tokenization import Tokenizer
from hedgespec.training.conversations import NUM_LIKELIEST, TEMPERATURES, Conversations, TurnIds, hold_conversations
from hedgespec.training.fresh_head import fresh_head_for
from hedgespec.training.train_drafter import DrafterSettings
from hedgespec.training.train_on_conversations import ConversationLessons, answer_vocabulary, train_on_conversations
from tests.chat_target import save_chat_target

_QUESTIONS = ["the fox", "the lazy dog sleeps", "over the dog, and then the fox jumps over it", "it"]
_SETTINGS = DrafterSettings(steps=40, sequences_per_step=4, sequence_length=48, num_depths=3, draft_vocab_size=64)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_chat_target(tmp_path_factory.mktemp("target"))


@pytest.fixture(scope="module")
def target(folder: Path) -> PackedCausalLM:
    return load_causal_lm(folder, "cpu", "target")


@pytest.fixture(scope="module")
def conversations(folder: Path, target: PackedCausalLM) -> Conversations:
    return hold_conversations(
        target, Tokenizer.from_folder(folder), _QUESTIONS,
        num_windows=6, length=48, max_answer=9, seed=0, progress=lambda share: None,
    )  # fmt: skip


def test_features_and_distributions_are_the_targets(target: PackedCausalLM, conversations: Conversations) -> None:
    for row, ids in enumerate(conversations.token_ids):
        slot = KvMemory(64).open(64)
        output = target.forward([Block(slot, ids.numpy().astype(np.int32), wants_features=True)])[0]
        assert output.features is not None
        torch.testing.assert_close(
            conversations.features[row], output.features.to(torch.bfloat16), atol=2e-2, rtol=2e-2
        )
        answered = conversations.is_answer[row]
        expected = output.logits.log_softmax(-1).topk(NUM_LIKELIEST)
        actual = conversations.log_probs[row][answered].float()
        torch.testing.assert_close(actual, expected.values[answered], atol=2e-2, rtol=2e-2)
        assert (conversations.likeliest[row][answered][:, 0] == expected.indices[answered][:, 0]).float().mean() > 0.95


def test_greedy_conversations_go_on_with_the_likeliest_token_until_an_answer_ends(conversations: Conversations) -> None:
    num_checked = 0
    for row, ids in enumerate(conversations.token_ids):
        if TEMPERATURES[row % len(TEMPERATURES)] > 0:
            continue
        answered = conversations.is_answer[row]
        for position in torch.nonzero(answered[:-1] & answered[1:]).flatten().tolist():
            assert ids[position + 1] == conversations.likeliest[row, position, 0]
            num_checked += 1
    assert num_checked > 20


def test_questions_follow_each_other_as_the_template_writes_them(folder: Path, conversations: Conversations) -> None:
    tokenizer = Tokenizer.from_folder(folder)
    turns = TurnIds(tokenizer)
    text = tokenizer.decode(conversations.token_ids[0].numpy())
    assert text.startswith(tokenizer.decode(turns.first(_QUESTIONS[0])))
    assert any(tokenizer.decode(turns.next(question)) in text for question in _QUESTIONS)
    longest = 0
    for run in "".join("1" if flag else "0" for flag in conversations.is_answer[0].tolist()).split("0"):
        longest = max(longest, len(run))
    assert longest <= 9


def test_files_come_back_and_join(conversations: Conversations, tmp_path: Path) -> None:
    conversations.save(tmp_path / "c.safetensors")
    both = Conversations.joined([conversations, Conversations.load(tmp_path / "c.safetensors")])
    assert torch.equal(both.token_ids[:6], both.token_ids[6:])
    assert torch.equal(both.features[:6], both.features[6:])


def test_lessons_renormalise_over_the_draft_vocabulary(conversations: Conversations) -> None:
    draft_ids = answer_vocabulary(conversations, 64, 300)
    lesson = ConversationLessons(conversations, draft_ids, 300).batch(np.array([1, 4]))
    sums = lesson.draft_probs.sum(-1)[lesson.counts]
    assert bool(((sums - 1).abs() < 1e-4).logical_or(sums == 0).all())
    is_drafted = torch.isin(lesson.best, draft_ids) & lesson.counts
    assert bool((draft_ids[lesson.draft_probs.argmax(-1)] == lesson.best)[is_drafted].all())


def test_a_head_learns_from_conversations_and_a_stopped_run_goes_on(
    folder: Path, conversations: Conversations, tmp_path: Path
) -> None:
    figures: list[str] = []

    def run(name: str, stop: bool = False) -> dict[str, torch.Tensor]:
        def progress(stage: str, share: float, line: str) -> None:
            figures.append(line)
            if stop and share >= 0.5:
                raise KeyboardInterrupt

        head = fresh_head_for(folder, answer_vocabulary(conversations, 64, 300), None, 0)
        settings = replace(_SETTINGS, checkpoint_every_s=0.0)
        return train_on_conversations(head, conversations, settings, tmp_path / name, progress).state_dict()

    whole = run("whole")
    losses = [float(line.split("loss ")[1].split()[0]) for line in figures]
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])
    with pytest.raises(KeyboardInterrupt):
        run("parts", stop=True)
    for name, weight in run("parts").items():
        torch.testing.assert_close(weight, whole[name])


def test_a_target_without_a_chat_template_is_refused(folder: Path) -> None:
    bare = replace(Tokenizer.from_folder(folder), chat_template=None)
    with pytest.raises(ConfigError, match="no chat template"):
        TurnIds(bare)
