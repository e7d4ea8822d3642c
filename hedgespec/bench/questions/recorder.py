"""Record the answers to questions once: one speculated decode of each, then every drafter's scores of the whole answer.

The text does not depend on the drafter, so each answer is decoded with the one that has been best in its category so far.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from hedgespec.bench.question_file import Question
from hedgespec.bench.questions.conversation import chat_prompt, fits, noise_seed
from hedgespec.bench.questions.recording import QuestionRecording, RecordedAnswer
from hedgespec.bench.simulation.recorder import NUM_CONCURRENT, NUM_TARGET_TOP, decode_answer, score_answer
from hedgespec.bench.simulation.served import AnswerScores
from hedgespec.protocols import Drafter, Fleet
from hedgespec.tokenization import Detokenizer, Tokenizer
from hedgespec.types import SamplingParams, SessionSpec


class QuestionRecorder:
    """Adds conversations to a recording, as they end.

    saved: called after each conversation, for progress and to write the recording now and then
    """

    def __init__(
        self,
        fleet: Fleet,
        tokenizer: Tokenizer,
        recording: QuestionRecording,
        max_tokens: int,
        saved: Callable[[], None],
        seed: int = 0,
    ) -> None:
        self._fleet = fleet
        self._drafters: list[Drafter] = list(fleet.drafters().values())
        self._tokenizer = tokenizer
        self._recording = recording
        self._max_tokens = max_tokens
        self._saved = saved
        self._seed = seed
        self._passes: dict[str, np.ndarray] = {}  # category -> passes of each drafter so far, [num_drafters]
        for answer in recording.answers:
            self._compare(answer)

    async def record(self, questions: Sequence[Question], temperatures: Sequence[float]) -> None:
        """Record every conversation that the recording does not have yet.

        The same seed gives the same texts, up to rounding when answers are batched differently. Raises HedgeSpecError when
        a drafter leaves a score out.
        """
        order = {
            (q.question_id, t): index for index, (q, t) in enumerate((q, t) for q in questions for t in temperatures)
        }
        room = asyncio.Semaphore(NUM_CONCURRENT)
        had = self._recording.conversations()
        started, before = time.perf_counter(), self._recording.cost.seconds

        async def one(question: Question, temperature: float) -> None:
            if (question.question_id, temperature) not in had:
                async with room:
                    answers = await self._conversation(question, temperature)
                self._recording.answers.extend(answers)
                # as questions come in the file, whichever ends first; those of an earlier, longer run stay behind
                self._recording.answers.sort(
                    key=lambda a: (order.get((a.question_id, a.temperature), len(order)), a.turn)
                )
            self._recording.cost.seconds = before + time.perf_counter() - started
            self._saved()

        await asyncio.gather(*(one(question, temperature) for question in questions for temperature in temperatures))

    async def _conversation(self, question: Question, temperature: float) -> list[RecordedAnswer]:
        messages: list[dict[str, str]] = []
        answers: list[RecordedAnswer] = []
        for turn, content in enumerate(question.turns):
            messages.append({"role": "user", "content": content})
            prompt_ids = chat_prompt(self._tokenizer, messages)
            if not fits(self._tokenizer, prompt_ids, self._max_tokens):
                break
            key = noise_seed(question.question_id, turn, temperature, self._seed)
            spec = SessionSpec(
                session_id=f"decode-{key}",
                prompt_ids=prompt_ids,
                emitted_ids=np.zeros(0, np.int32),
                sampling=SamplingParams(temperature=temperature, max_tokens=self._max_tokens),
                noise_seed=key,
                max_draft_tokens=self._recording.max_draft_tokens,
                num_target_top=NUM_TARGET_TOP,
                score_depth="exact",
            )
            answer = await self._answer(question, turn, temperature, spec)
            self._compare(answer)
            answers.append(answer)
            messages.append({"role": "assistant", "content": self._text(prompt_ids, answer.token_ids.tolist())})
        return answers

    async def _answer(self, question: Question, turn: int, temperature: float, spec: SessionSpec) -> RecordedAnswer:
        drafter = self._drafters[self._best(question.category)]
        end_token_ids = frozenset(self._tokenizer.eos_token_ids)
        async with self._fleet.lease_target() as target:
            decoded = await decode_answer(target, drafter, spec, end_token_ids)
            scoring = replace(spec, session_id=f"score-{spec.noise_seed}")
            rows = await score_answer(target, self._drafters, scoring, decoded.answer, None)
        self._recording.cost.num_passes += decoded.num_passes
        self._recording.cost.num_tokens += len(decoded.answer.token_ids)
        scores = AnswerScores(rows["acceptance"], rows["acceptance_prob"])
        return RecordedAnswer(question.question_id, question.category, turn, temperature, rows["token_ids"], scores)

    def _text(self, prompt_ids: NDArray[np.int32], token_ids: list[int]) -> str:
        """The text of an answer, as a client gets it: without the end token."""
        detokenizer = Detokenizer(self._tokenizer, prompt_ids[-16:].tolist())
        shown = token_ids[:-1] if token_ids and token_ids[-1] in self._tokenizer.eos_token_ids else token_ids
        return detokenizer.push(shown) + detokenizer.finish()

    def _best(self, category: str) -> int:
        """The drafter with the fewest passes in a category, or in all of them while nothing is known of it."""
        passes = self._passes.get(category)
        if passes is None and self._passes:
            passes = np.sum(list(self._passes.values()), axis=0)
        return 0 if passes is None else int(passes.argmin())

    def _compare(self, answer: RecordedAnswer) -> None:
        before = self._passes.get(answer.category, np.zeros(len(self._drafters)))
        self._passes[answer.category] = before + answer.expected_passes
