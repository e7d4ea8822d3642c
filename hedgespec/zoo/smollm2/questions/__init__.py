"""Ask what users ask: seeded generators of chat messages, whose answers by the target become its heads' training text."""

from __future__ import annotations

from hedgespec.zoo.smollm2.questions.draw import QuestionSplit, questions, split_of

__all__ = ["QuestionSplit", "questions", "split_of"]
