"""A chat target answers questions, many conversations at a time; what it computed on the way is what a head learns from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from hedgespec.errors import ConfigError
from hedgespec.models.causal_lm.block import Block
from hedgespec.models.causal_lm.packed import PackedCausalLM
from hedgespec.tokenization import Tokenizer
from hedgespec.training.batched_attention import KvTable, add_one_token_each

NUM_LIKELIEST = 32
"""Tokens of each of the target's distributions that are kept."""

TEMPERATURES = (0.0, 0.0, 0.7, 1.0)
"""The conversations take these in turn; 0 comes twice, because its text is the easiest to draft and the most asked for."""

Ids = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Conversations:
    """Windows of text and what the target computed for them; the beginning of each window is the beginning of a chat.

    token_ids: [num_windows, length], int32
    features:  [num_windows, length, 3 * hidden], bfloat16
    likeliest: [num_windows, length, NUM_LIKELIEST], int32, the target's likeliest next tokens, falling
    log_probs: the same shape, bfloat16, their logarithms of probability at temperature 1
    is_answer: [num_windows, length], bool: the token behind this position is the target's own
    """

    token_ids: Tensor
    features: Tensor
    likeliest: Tensor
    log_probs: Tensor
    is_answer: Tensor

    def save(self, path: Path) -> None:
        """Write a safetensors file; a crash in between leaves none."""
        partial = path.with_suffix(".partial")
        save_file({name: getattr(self, name) for name in self.__slots__}, partial)
        partial.replace(path)

    @staticmethod
    def load(path: Path) -> Conversations:
        """Read what `save` wrote."""
        return Conversations(**load_file(path))

    @staticmethod
    def joined(parts: Sequence[Conversations]) -> Conversations:
        """Join the windows of all parts, which must have one length."""
        names = Conversations.__slots__
        return Conversations(**{name: torch.cat([getattr(part, name) for part in parts]) for name in names})


class TurnIds:
    """Renders users' messages as the token ids that a chat continues with. Raises ConfigError without a chat template."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        if tokenizer.chat_template is None:
            raise ConfigError("The target has no chat template: train on text (--text) instead of questions.")
        self._tokenizer = tokenizer
        mark = "§"
        turns = ("user", mark), ("assistant", mark), ("user", "")
        rendered = tokenizer.render_chat([{"role": role, "content": content} for role, content in turns])
        self._end_of_answer = rendered.rsplit(mark, 1)[1]  # how the template ends an answer and begins the next turn

    def first(self, question: str) -> Ids:
        """Return the ids of a chat's beginning, up to where the answer begins."""
        return self._tokenizer.apply_chat_template([{"role": "user", "content": question}])

    def next(self, question: str) -> Ids:
        """Return the ids between an answer's last token and the next answer; the end of the answer is their first."""
        messages = [{"role": "user", "content": "§"}, {"role": "assistant", "content": "§"}]
        rendered = self._tokenizer.render_chat([*messages, {"role": "user", "content": question}])
        return self._tokenizer.encode(rendered.split("§", 2)[2], add_special_tokens=False)


def hold_conversations(
    model: PackedCausalLM,
    tokenizer: Tokenizer,
    questions: Sequence[str],
    *,
    num_windows: int,
    length: int,
    max_answer: int,
    seed: int,
    progress: Callable[[float], None],
) -> Conversations:
    """Let the target answer questions until `num_windows` conversations are `length` tokens long.

    questions: given out in turn, again from the first one when all were asked; max_answer: tokens of one answer
    """
    turns, asked = TurnIds(tokenizer), _endless(questions)
    table = KvTable(model, num_windows, length)
    generator = torch.Generator().manual_seed(seed)
    chats = [
        _Chat(TEMPERATURES[row % len(TEMPERATURES)], length, turns.first(next(asked))) for row in range(num_windows)
    ]
    while active := [row for row, chat in enumerate(chats) if not chat.is_complete]:
        logits, features = _read(model, table, active, chats)
        log_probs = logits.float().log_softmax(-1)
        likeliest = log_probs.topk(NUM_LIKELIEST)
        drawn = _drawn(log_probs, torch.tensor([chats[row].temperature for row in active]), generator).tolist()
        for index, row in enumerate(active):
            chat = chats[row]
            chat.take(features[index], likeliest.indices[index], likeliest.values[index], drawn[index])
            if drawn[index] in tokenizer.eos_token_ids or chat.answer_length >= max_answer:
                chat.ask(turns.next(next(asked)))
        progress(sum(slot.length for slot in table.slots) / (num_windows * length))
    return Conversations.joined([chat.window() for chat in chats])


def _read(
    model: PackedCausalLM, table: KvTable, active: Sequence[int], chats: Sequence[_Chat]
) -> tuple[Tensor, list[Tensor]]:
    """Let the target read what chats wait with; return the last logits of each, [num_active, vocab], and its features."""
    logits: dict[int, Tensor] = {}
    features: dict[int, Tensor] = {}
    single = [row for row in active if len(chats[row].waiting) == 1]
    if single:
        own, tapped = add_one_token_each(model, table, single, [int(chats[row].waiting[0]) for row in single])
        logits |= dict(zip(single, own, strict=True))
        features |= dict(zip(single, tapped.unsqueeze(1), strict=True))
    longer = [row for row in active if len(chats[row].waiting) > 1]
    if longer:
        waiting = [chats[row].waiting for row in longer]
        slots = [table.slots[row] for row in longer]
        outputs = model.forward(
            [Block(slot, ids, None, len(ids) - 1, True) for slot, ids in zip(slots, waiting, strict=True)]
        )
        for row, output in zip(longer, outputs, strict=True):
            assert output.features is not None
            logits[row], features[row] = output.logits[-1], output.features
    return torch.stack([logits[row] for row in active]), [features[row] for row in active]


class _Chat:
    """One conversation in the making. waiting: the ids that the target has not read yet"""

    def __init__(self, temperature: float, length: int, beginning: Ids) -> None:
        self.temperature = temperature
        self.waiting = beginning[:length]
        self.answer_length = 0
        self._length = length
        self._ids: list[int] = []
        self._features: list[Tensor] = []
        self._likeliest = torch.zeros(length, NUM_LIKELIEST, dtype=torch.int32)
        self._log_probs = torch.zeros(length, NUM_LIKELIEST, dtype=torch.bfloat16)
        self._is_answer = torch.zeros(length, dtype=torch.bool)

    @property
    def is_complete(self) -> bool:
        return not len(self.waiting)

    def take(self, features: Tensor, likeliest: Tensor, log_probs: Tensor, drawn: int) -> None:
        """Note what the target computed for the waiting ids; the token that it drew is waiting next."""
        self._ids += self.waiting.tolist()
        self._features.append(features.to(torch.bfloat16))
        last = len(self._ids) - 1
        self._likeliest[last], self._log_probs[last] = likeliest.int(), log_probs.to(torch.bfloat16)
        self._is_answer[last] = True
        self.answer_length += 1
        self._wait_for(np.array([drawn], np.int32))

    def ask(self, ids: Ids) -> None:
        """Put the next question in the place of the token that was drawn."""
        self.answer_length = 0
        self._wait_for(ids)

    def window(self) -> Conversations:
        ids, features = torch.tensor(self._ids, dtype=torch.int32), torch.cat(self._features)
        parts = ids, features, self._likeliest, self._log_probs, self._is_answer
        return Conversations(*(part.unsqueeze(0) for part in parts))

    def _wait_for(self, ids: Ids) -> None:
        self.waiting = ids[: self._length - len(self._ids)]


def _endless(questions: Sequence[str]) -> Iterator[str]:
    while True:
        yield from questions


def _drawn(log_probs: Tensor, temperatures: Tensor, generator: torch.Generator) -> Tensor:
    """Draw one token per row, [num_rows]; rows of temperature 0 take the likeliest."""
    drawn = log_probs.argmax(-1)
    sampled = temperatures > 0
    # by the inverse of the distribution function: `multinomial` takes as long as a quarter of the pass
    cumulated = (log_probs[sampled] / temperatures[sampled, None]).softmax(-1).cumsum(-1)
    uniform = torch.rand(len(cumulated), 1, generator=generator).to(log_probs.device)
    found = torch.searchsorted(cumulated, uniform * cumulated[:, -1:], right=True)
    drawn[sampled] = found.squeeze(1).clamp(max=log_probs.shape[1] - 1)
    return drawn
