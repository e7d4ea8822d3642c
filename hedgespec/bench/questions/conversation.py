"""A conversation puts one question to one arm, turn by turn; each prompt holds the arm's own answers so far."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hedgespec.bench.answers import measure_answer
from hedgespec.bench.question_file import Question
from hedgespec.bench.questions.tenant import RecordedPreferences
from hedgespec.errors import ConfigError, RequestError
from hedgespec.router.service import GenerationService
from hedgespec.tokenization import Tokenizer
from hedgespec.types import SamplingParams

TenantPer = Literal["question", "category", "run"]
"""Who shares preferences: the turns of one question, the questions of one category, or all of them."""


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to choose drafters.

    preferences: what its tenants have learned; every arm has its own
    drafter: the user's messages so far -> a pinned drafter id, "none", or None for the learner's choice
    """

    name: str
    service: GenerationService
    preferences: RecordedPreferences
    drafter: Callable[[Sequence[str]], str | None]


@dataclass(frozen=True, slots=True)
class TurnAnswer:
    """What the answer to one turn needed.

    passes: of the target; expected ones, not whole numbers, where they are computed instead of counted
    seconds: wall time, prefill included; None where nothing was timed
    digest: of the answer's token ids; learned: what the answer added to the tenant's preferences
    """

    tokens: int
    passes: float
    seconds: float | None
    digest: str
    learned: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Conversation:
    """The answers of one arm to the turns of one question, at one temperature.

    Fewer answers than turns: the next prompt would have been longer than the target's context allows.
    """

    question_id: str
    category: str
    temperature: float
    arm: str
    answers: tuple[TurnAnswer, ...]

    @property
    def key(self) -> tuple[str, float, str]:
        """What tells it from the other conversations of a run."""
        return self.question_id, self.temperature, self.arm


async def converse(
    arm: Arm, question: Question, temperature: float, max_tokens: int, tokenizer: Tokenizer, tenant_per: TenantPer
) -> Conversation:
    """Have every turn answered, up to its end token or `max_tokens`."""
    messages: list[dict[str, str]] = []
    answers: list[TurnAnswer] = []
    for turn, content in enumerate(question.turns):
        messages.append({"role": "user", "content": content})
        prompt_ids = chat_prompt(tokenizer, messages)
        if not fits(tokenizer, prompt_ids, max_tokens):
            break
        answer = await measure_answer(
            arm.service,
            prompt_ids,
            sampling(question, turn, temperature, max_tokens),
            arm.drafter(question.turns[: turn + 1]),
            tenant=tenant(question, tenant_per),
            scope=f"{temperature:g}",
        )
        await arm.service.drain()  # late scores belong to this answer, and the next turn starts from what it taught
        stats = answer.stats
        learned = arm.preferences.take()
        digest = text_digest(answer.token_ids)
        answers.append(TurnAnswer(stats.num_emitted, stats.num_rounds, round(answer.seconds, 4), digest, learned))
        messages.append({"role": "assistant", "content": answer.text})
    return Conversation(question.question_id, question.category, temperature, arm.name, tuple(answers))


def chat_prompt(tokenizer: Tokenizer, messages: Sequence[dict[str, str]]) -> NDArray[np.int32]:
    """Return the ids of the target's chat template with the generation prompt. Raises ConfigError without a template."""
    try:
        return tokenizer.apply_chat_template(messages)
    except RequestError as error:
        raise ConfigError(f"Questions are put through the target's chat template: {error}") from error


def fits(tokenizer: Tokenizer, prompt_ids: NDArray[np.int32], max_tokens: int) -> bool:
    """Return whether prompt and answer fit into the target's context."""
    return len(prompt_ids) + max_tokens <= tokenizer.max_model_len


def sampling(question: Question, turn: int, temperature: float, max_tokens: int) -> SamplingParams:
    """Return the parameters of an answer. A greedy one gets a seed, which makes the drawn drafters repeatable; above
    temperature 0 a seed would change the way of verification."""
    seed = noise_seed(question.question_id, turn) if temperature == 0.0 else None
    return SamplingParams(temperature=temperature, max_tokens=max_tokens, seed=seed)


def noise_seed(*key: object) -> int:
    """Return a 63-bit seed for a key."""
    return int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:8], "big") >> 1


def tenant(question: Question, tenant_per: TenantPer) -> str:
    """Return the tenant that puts this question."""
    return {"question": f"question {question.question_id}", "category": question.category, "run": "everybody"}[
        tenant_per
    ]


def text_digest(token_ids: Sequence[int] | NDArray[np.int32]) -> str:
    """Return a digest of token ids, so that texts can be compared without being kept."""
    return hashlib.sha256(np.asarray(token_ids, dtype="<i4").tobytes()).hexdigest()[:16]
