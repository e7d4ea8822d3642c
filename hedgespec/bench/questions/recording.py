"""The recording of answers to questions: with which probability every drafter's draft is accepted at every token.

Unlike `simulation.recording`, answers have lengths of their own and belong to turns of conversations.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hedgespec.bench.simulation.hindsight import fixed_passes
from hedgespec.bench.simulation.served import AnswerScores
from hedgespec.errors import ConfigError

FORMAT = "hedgespec recorded answers to questions, 1"


@dataclass(frozen=True, slots=True)
class RecordedAnswer:
    """The answer to one turn. token_ids: [num_tokens]; scores: `AnswerScores` of the same tokens."""

    question_id: str
    category: str
    turn: int
    temperature: float
    token_ids: NDArray[np.int32]
    scores: AnswerScores

    @property
    def num_tokens(self) -> int:
        return len(self.token_ids)

    @property
    def expected_passes(self) -> NDArray[np.float64]:
        """[num_drafters], the target passes that each drafter alone needs; at temperature 0 exactly those."""
        passes: NDArray[np.float64] = fixed_passes(self.scores.acceptance[None])[0]
        return passes


@dataclass(slots=True)
class RecordingCost:
    """What recording has taken so far. seconds: wall time; num_passes: of the target, while decoding."""

    seconds: float = 0.0
    num_passes: int = 0
    num_tokens: int = 0


@dataclass(slots=True)
class QuestionRecording:
    """Answers of whole conversations, the turns of one next to each other.

    settings: what must be equal for a recording to go on (`simulate record --resume`)
    """

    drafter_ids: tuple[str, ...]
    max_draft_tokens: int
    settings: dict[str, Any]
    answers: list[RecordedAnswer]
    cost: RecordingCost

    def conversations(self) -> dict[tuple[str, float], list[RecordedAnswer]]:
        """Return (question id, temperature) -> its answers by turn, in the order of the recording."""
        groups: dict[tuple[str, float], list[RecordedAnswer]] = {}
        for answer in self.answers:
            groups.setdefault((answer.question_id, answer.temperature), []).append(answer)
        return groups

    def save(self, path: Path) -> None:
        """Write the recording to a NumPy .npz file; one that is there stays whole until the new one is."""
        path.parent.mkdir(parents=True, exist_ok=True)
        head = {
            "format": FORMAT,
            "drafter_ids": self.drafter_ids,
            "max_draft_tokens": self.max_draft_tokens,
            "settings": self.settings,
            "cost": asdict(self.cost),
            "answers": [[a.question_id, a.category, a.turn, a.temperature, a.num_tokens] for a in self.answers],
        }
        shape = (len(self.drafter_ids), 0, self.max_draft_tokens)
        partial = path.with_name(path.name + ".partial")
        with partial.open("wb") as file:
            np.savez_compressed(
                file,
                head=np.array(json.dumps(head)),
                token_ids=np.concatenate([np.zeros(0, np.int32), *(a.token_ids for a in self.answers)]),
                acceptance=_joined([a.scores.acceptance for a in self.answers], shape),
                acceptance_prob=_joined([a.scores.acceptance_prob for a in self.answers], shape),
            )
        partial.replace(path)

    @staticmethod
    def load(path: Path) -> QuestionRecording:
        """Read a recording. Raises ConfigError when the file is not one of questions."""
        try:
            with np.load(path, allow_pickle=False) as content:
                head = json.loads(str(content["head"]))
                if head["format"] != FORMAT:
                    raise ConfigError(f"{path}: format {head['format']!r}, expected {FORMAT!r}; record it again")
                arrays = {name: content[name] for name in ("token_ids", "acceptance", "acceptance_prob")}
        except (OSError, KeyError, ValueError, TypeError) as error:
            raise ConfigError(
                f"{path} is no recording of questions; make one with `hedgespec simulate record --prompts`: {error}"
            ) from error
        answers, start = [], 0
        for question_id, category, turn, temperature, num_tokens in head["answers"]:
            own = slice(start, start + num_tokens)
            scores = AnswerScores(arrays["acceptance"][:, own], arrays["acceptance_prob"][:, own])
            ids = arrays["token_ids"][own]
            answers.append(RecordedAnswer(question_id, category, turn, temperature, ids, scores))
            start += num_tokens
        return QuestionRecording(
            tuple(head["drafter_ids"]),
            head["max_draft_tokens"],
            head["settings"],
            answers,
            RecordingCost(**head["cost"]),
        )


def _joined(parts: Sequence[NDArray[np.float32]], empty: tuple[int, ...]) -> NDArray[np.float32]:
    return np.concatenate([np.zeros(empty, np.float32), *parts], axis=1)
