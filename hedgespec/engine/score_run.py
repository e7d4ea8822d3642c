"""Scores are computed a pass at a time, so that a draft that comes in the meantime waits for one pass and not for all."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import TypeVar

from hedgespec.engine.work import SessionKey, Ticket, as_own_error
from hedgespec.models.drafter_model import DrafterModel
from hedgespec.types import PromptScoreRequest, ScoreRequest

Request = TypeVar("Request")
Result = TypeVar("Result")


class ScoreRun:
    """A batch of score requests of one model. Between passes its `sessions` may observe more and may draft, but not end.

    owed_s: compute time in seconds due to scores before drafts run again
    """

    def __init__(self, model: DrafterModel, tickets: Sequence[Ticket]) -> None:
        self.tickets = list(tickets)
        self.sessions = {SessionKey.of(ticket.work) for ticket in self.tickets}
        self.num_answers = len({session.session_id for session in self.sessions})
        self.owed_s = 0.0
        self._model = model
        self._passes = self._run()

    def advance(self) -> bool:
        """Run one pass; return whether everything has been answered."""
        return next(self._passes, self) is self

    def finish(self) -> None:
        """Run all remaining passes."""
        while not self.advance():
            pass

    def _run(self) -> Generator[None]:
        """Score prompts first: their evidence matters only in the first rounds of an answer."""
        prompts, tickets = requests_of(PromptScoreRequest, self.tickets)
        if prompts:
            answer_all(self._model.score_prompt, prompts, tickets)
            yield
        observed, tickets = requests_of(ScoreRequest, self.tickets)
        if observed:
            yield from _answer_in_passes(self._model.score_passes, observed, tickets)


def requests_of(kind: type[Request], tickets: Sequence[Ticket]) -> tuple[list[Request], list[Ticket]]:
    """Return the requests of one kind among the tickets, and their tickets."""
    pairs = [(ticket.work, ticket) for ticket in tickets if isinstance(ticket.work, kind)]
    return [request for request, _ in pairs], [ticket for _, ticket in pairs]


def answer_all(
    compute: Callable[[Sequence[Request]], list[Result]], requests: Sequence[Request], tickets: Sequence[Ticket]
) -> None:
    """Compute all requests together; if that fails, compute each alone, so that only the broken one fails."""

    def in_one_pass(asked: Sequence[Request]) -> Generator[None, None, list[Result]]:
        yield from ()
        return compute(asked)

    for _ in _answer_in_passes(in_one_pass, requests, tickets):
        pass


def _answer_in_passes(
    compute: Callable[[Sequence[Request]], Generator[None, None, list[Result]]],
    requests: Sequence[Request],
    tickets: Sequence[Ticket],
) -> Generator[None]:
    failure: Exception | None = None
    results: list[Result] = []
    try:
        results = yield from compute(requests)
    except Exception as error:  # whatever the model's library raises
        failure = error
    if failure is None:
        for ticket, result in zip(tickets, results, strict=True):
            ticket.resolve(result)
    elif len(requests) == 1:
        tickets[0].fail(as_own_error(failure, "drafter"))
    else:
        for request, ticket in zip(requests, tickets, strict=True):
            yield from _answer_in_passes(compute, [request], [ticket])
