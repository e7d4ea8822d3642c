"""Questions for exact toy models in one process: a chat template, an end token, and two categories."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from hedgespec.assembly.local_service import LocalService, local_service
from hedgespec.bench.question_file import Question
from hedgespec.tokenization.chat_template import ChatTemplate
from tests.toy_args import NEAR_AND_FAR

QUESTIONS = [
    Question("1", "writing", ("tell a tale", "once more")),
    Question("2", "writing", ("sing",)),
    Question("3", "maths", ("add one", "and two")),
]

TEMPLATE = ChatTemplate("{% for m in messages %}{{ m.content }}{% endfor %}", {})
END_TOKEN = 9
"""The letter j: some greedy answers have one and some do not."""


@asynccontextmanager
async def toy_chat() -> AsyncIterator[LocalService]:
    """A local service of toy models whose tokenizer has a chat template and an end token."""
    async with local_service(NEAR_AND_FAR) as local:
        yield replace(local, tokenizer=replace(local.tokenizer, chat_template=TEMPLATE, eos_token_ids=(END_TOKEN,)))


def write_questions(path: Path) -> Path:
    """Write QUESTIONS as a question file."""
    lines = [{"question_id": q.question_id, "category": q.category, "turns": q.turns} for q in QUESTIONS]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path
