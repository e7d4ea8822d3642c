"""The settings of a build of SmolLM2's heads."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from hedgespec.training.train_drafter import DrafterSettings

LENGTH = 384


@dataclass(frozen=True, slots=True)
class HeadsSettings:
    """Everything that decides the heads.

    out:         folder of the heads; what the build needs again is in `out`/.build
    rounds:      files of conversations per domain, num_windows windows of `length` tokens each, from num_questions questions
    max_answer:  tokens of an answer, after which the next question is asked
    generic:     of the head for everything, which starts from random weights and sees all domains
    expert:      of a domain's head, which starts from the generic one and sees its domain alone
    """

    out: Path
    seed: int = 0
    rounds: int = 1
    length: int = LENGTH
    num_windows: int = 64
    max_answer: int = 192
    num_questions: int = 300
    generic: DrafterSettings = field(default_factory=lambda: _drafter(steps=256))
    expert: DrafterSettings = field(default_factory=lambda: _expert())

    @property
    def work(self) -> Path:
        """The folder of intermediate results."""
        return self.out / ".build"


def _drafter(steps: int) -> DrafterSettings:
    settings = DrafterSettings(steps=steps, sequences_per_step=8, sequence_length=LENGTH, draft_vocab_size=6144)
    return replace(settings, intermediate_size=768, num_depths=4)


def _expert() -> DrafterSettings:
    return replace(_drafter(steps=48), matrix_lr=0.01, embedding_lr=0.0015)
