"""The account of one answer adds up its counters round by round."""

from __future__ import annotations

import time

from hedgespec.router.answer import Answer
from hedgespec.types import DecodeStats, RoundReport


class AnswerAccount:
    """The counters of one answer. started: time.perf_counter() when the request came in, in seconds."""

    def __init__(self, num_prompt_tokens: int, started: float) -> None:
        self.stats = DecodeStats(num_prompt_tokens=num_prompt_tokens)
        self.started = started
        self.ttft_s = 0.0
        self._first_round_s = 0.0

    def add(self, report: RoundReport) -> None:
        stats = self.stats
        if stats.num_rounds == 0:
            self.ttft_s = time.perf_counter() - self.started
            self._first_round_s = time.perf_counter() - report.draft_s - report.verify_s
        stats.num_rounds += 1
        stats.num_emitted += len(report.token_ids)
        stats.draft_s += report.draft_s
        stats.verify_s += report.verify_s
        stats.learn_s += report.learn_s
        stats.transport_s += report.transport_s
        if report.drafter_id is None:
            return
        stats.num_drafts += 1
        stats.num_drafted += report.num_drafted
        stats.num_accepted += report.num_accepted
        for share in report.shares:
            _add(stats.rounds_by_drafter, share.drafter_id, 1)
            _add(stats.drafted_by_drafter, share.drafter_id, share.num_drafted)
            _add(stats.accepted_by_drafter, share.drafter_id, share.num_accepted)
        per_position = stats.accepted_per_position
        per_position.extend([0] * (report.depth - len(per_position)))
        for position in range(report.num_accepted):
            per_position[position] += 1

    def close(self, answer: Answer, num_last_kept: int) -> DecodeStats:
        """The counters of an answer that has ended, expected passes so far included.

        num_last_kept: tokens of the last round that belong to the answer; a stop string may have cut some
        """
        loop = answer.loop
        stats = self.stats
        stats.num_emitted += num_last_kept - loop.last_round_tokens
        stats.num_migrations = loop.num_migrations
        stats.num_cached_tokens = loop.num_cached_tokens
        waited = stats.draft_s + stats.verify_s + stats.learn_s
        stats.overhead_s = max(0.0, time.perf_counter() - self._first_round_s - waited)
        stats.weights = answer.weights()
        stats.expected_passes = answer.expected_passes()
        return stats


def _add(counts: dict[str, int], name: str, number: int) -> None:
    counts[name] = counts.get(name, 0) + number
