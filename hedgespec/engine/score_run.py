"""Scores that are being computed, a pass at a time: a draft that comes in the meantime waits for one pass, not for all."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any, TypeVar

from hedgespec.engine.failures import as_own_error
from hedgespec.engine.work import Observe, ScorePrompt, SessionKey, Ticket, Verify
from hedgespec.models.drafter_model import DrafterModel, PromptScoreRequest, ScoreRequest
from hedgespec.types import Scores

Request = TypeVar("Request")
Result = TypeVar("Result")


class ScoreRun:
    """Of one model's tickets. Between the passes sessions may be told more and may draft, but not end (`sessions`)."""

    def __init__(self, model: DrafterModel, tickets: Sequence[Ticket]) -> None:
        self._model = model
        self.tickets = list(tickets)
        self.sessions = {SessionKey.of(t.work) for t in self.tickets if not isinstance(t.work, Verify)}
        self.num_answers = len({session.session_id for session in self.sessions})
        self._steps = self._run()

    def advance(self) -> bool:
        """One pass; True when everything has been answered."""
        return next(self._steps, self) is self

    def finish(self) -> None:
        while not self.advance():
            pass

    def _run(self) -> Generator[None]:
        """Prompts first: they say something as long as the answer is young."""
        prompts = [(t, t.work) for t in self.tickets if isinstance(t.work, ScorePrompt)]
        if prompts:
            asked = [PromptScoreRequest(work.session_id, work.prompt_top, work.drafter_id) for _, work in prompts]
            answer_all(self._model.score_prompt, asked, [ticket for ticket, _ in prompts])
            yield
        observed = [(t, t.work) for t in self.tickets if isinstance(t.work, Observe)]
        if observed:
            requests = [ScoreRequest(work.session_id, work.observation, work.drafter_id) for _, work in observed]
            yield from self._scores(requests, [ticket for ticket, _ in observed])

    def _scores(self, requests: Sequence[ScoreRequest], tickets: Sequence[Ticket]) -> Generator[None]:
        try:
            results: list[Scores] = yield from self._model.score_passes(requests)
        except Exception as error:  # whatever the model's library raises
            if len(requests) == 1:
                tickets[0].fail(as_own_error(error, "drafter"))
            for alone in range(len(requests)) if len(requests) > 1 else ():
                yield from self._scores([requests[alone]], [tickets[alone]])
            return
        for ticket, scores in zip(tickets, results, strict=True):
            ticket.resolve(scores)


def answer_all(
    compute: Callable[[Sequence[Request]], list[Result]], requests: Sequence[Request], tickets: Sequence[Ticket]
) -> None:
    """Compute all requests together; if that fails, each alone, so that only what is broken fails."""
    try:
        results: list[Any] = list(compute(requests))
    except Exception as error:  # whatever the model's library raises
        if len(requests) > 1:
            for request, ticket in zip(requests, tickets, strict=True):
                answer_all(compute, [request], [ticket])
            return
        tickets[0].fail(as_own_error(error, "drafter"))
        return
    for ticket, result in zip(tickets, results, strict=True):
        ticket.resolve(result)
