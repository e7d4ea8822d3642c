"""An answer ends at an end token, a stop string or the token limit; this file finds the first of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from hedgespec.types import FinishReason, SamplingParams


@dataclass(frozen=True, slots=True)
class Ending:
    """Where a round's tokens end. num_tokens: those that belong to the answer, the end token included."""

    num_tokens: int
    finish_reason: FinishReason | None


def find_ending(
    token_ids: Sequence[int], num_before: int, sampling: SamplingParams, end_token_ids: frozenset[int]
) -> Ending:
    """Cut a round's tokens at the first end token or at the token limit; at the same token the end token wins.

    num_before: tokens of the answer before this round.
    """
    limit = sampling.max_tokens - num_before
    for index, token in enumerate(token_ids[:limit]):
        if token in end_token_ids:
            return Ending(index + 1, "stop")
    if len(token_ids) >= limit:
        return Ending(limit, "length")
    return Ending(len(token_ids), None)


@dataclass(slots=True)
class StopStrings:
    """Finds stop strings in streamed text. Text that may be the beginning of one is held back until that is decided."""

    stop: tuple[str, ...]
    held: str = ""
    longest: int = field(init=False)

    def __post_init__(self) -> None:
        self.longest = max((len(s) for s in self.stop), default=0)

    def push(self, text: str) -> tuple[str, bool]:
        """-> (text that is safe to show, whether a stop string was met). The stop string itself is never shown."""
        if not self.stop:
            return text, False
        text = self.held + text
        ends = [index for s in self.stop if (index := text.find(s)) >= 0]
        if ends:
            self.held = ""
            return text[: min(ends)], True
        keep = self._undecided_suffix(text)
        self.held = text[len(text) - keep :]
        return text[: len(text) - keep], False

    def flush(self) -> str:
        text, self.held = self.held, ""
        return text

    def _undecided_suffix(self, text: str) -> int:
        for length in range(min(self.longest - 1, len(text)), 0, -1):
            if any(s.startswith(text[-length:]) for s in self.stop):
                return length
        return 0
