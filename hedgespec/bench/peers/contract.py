"""What the benchmark of peers asks of every way of decoding, and what a peer's process and ours say to each other.

A worker (`workers/*.py`) is started with one line of JSON on its input, the job: `model` (a folder or a GGUF file),
`threads`, `at_once`, `prompt_lookup` (tokens that it drafts; 0: none), `max_context` (tokens) and `end_ids`. It answers
`{"ready": true, "version": TEXT}`, and then every line `{"prompts": [[id, ...], ...], "max_tokens": N}` with

    {"seconds": S, "answers": [{"token_ids": [...], "seconds": S, "first_token_s": S}, ...]}

where all prompts are decoded greedily at once, in their order, and times run from the arrival of the line. The token that
ends an answer may be given or left out. `{"error": TEXT}` in place of either means that the peer cannot go on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hedgespec.errors import PeerUnavailable


@dataclass(frozen=True, slots=True)
class Answer:
    """One greedy answer, without the token that ended it.

    seconds, first_token_s: from when it was asked for, prefill included
    text: what a server gave that tells no ids, else empty
    """

    token_ids: tuple[int, ...]
    seconds: float
    first_token_s: float
    text: str = ""


@dataclass(frozen=True, slots=True)
class Batch:
    """Answers that were decoded at once. seconds: from the first question to the end of the last answer.

    num_tokens: of all answers; the tokens that ended them are not counted
    """

    answers: tuple[Answer, ...]
    num_tokens: int
    seconds: float


class Arm(Protocol):
    """One way of decoding that is measured: ours, or a peer.

    bits:        in which numbers its weights are kept
    max_at_once: how many answers it decodes together
    """

    name: str
    bits: str
    max_at_once: int

    async def decode(self, prompts: Sequence[NDArray[np.int32]], max_tokens: int) -> Batch:
        """Decode all prompts at once and greedily, until their ends or max_tokens. Raises PeerUnavailable."""
        ...

    async def close(self) -> None:
        """Stop for good and free the memory."""
        ...


def parsed_batch(reply: dict[str, Any], num_prompts: int, end_ids: Sequence[int]) -> Batch:
    """Read the reply to a line of prompts. Raises PeerUnavailable for anything that breaks the contract."""
    try:
        answers = tuple(_answer(content, end_ids) for content in reply["answers"])
        seconds = float(reply["seconds"])
    except (KeyError, TypeError, ValueError) as error:
        raise PeerUnavailable(f"its worker broke the contract: {type(error).__name__}: {error}") from error
    if len(answers) != num_prompts or seconds <= 0.0:
        raise PeerUnavailable(f"its worker broke the contract: {len(answers)} answers in {seconds:g} s")
    return Batch(answers, sum(len(answer.token_ids) for answer in answers), seconds)


def _answer(content: dict[str, Any], end_ids: Sequence[int]) -> Answer:
    token_ids = [int(token) for token in content["token_ids"]]
    ends = [index for index, token in enumerate(token_ids) if token in end_ids]
    shown = tuple(token_ids[: ends[0]] if ends else token_ids)
    return Answer(shown, float(content["seconds"]), float(content["first_token_s"]))
