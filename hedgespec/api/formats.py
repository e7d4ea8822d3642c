"""An answer is written in one of two formats, whole or in pieces, and may end with a report on its speculation."""

from __future__ import annotations

from typing import Any

from hedgespec.types import DecodeStats, FinishReason

Json = dict[str, Any]


class Format:
    """The format of /v1/completions.

    source: the parameter that holds the prompt. whole_object, piece_object: the `object` field. id_prefix: before our
    request id.
    """

    source = "prompt"
    whole_object = "text_completion"
    piece_object = "text_completion"
    id_prefix = "cmpl-"

    def whole(self, index: int, text: str, finish_reason: FinishReason | None) -> Json:
        """Return one entry of `choices` of a complete answer."""
        return {"index": index, "text": text, "logprobs": None, "finish_reason": finish_reason}

    def piece(self, index: int, text: str, finish_reason: FinishReason | None, is_first: bool) -> Json:
        """Return one entry of `choices` of a streamed chunk."""
        return self.whole(index, text, finish_reason)


class ChatFormat(Format):
    """The format of /v1/chat/completions."""

    source = "messages"
    whole_object = "chat.completion"
    piece_object = "chat.completion.chunk"
    id_prefix = "chatcmpl-"

    def whole(self, index: int, text: str, finish_reason: FinishReason | None) -> Json:
        message = {"role": "assistant", "content": text, "refusal": None}
        return {"index": index, "message": message, "logprobs": None, "finish_reason": finish_reason}

    def piece(self, index: int, text: str, finish_reason: FinishReason | None, is_first: bool) -> Json:
        # The role comes with the first text, never before it: clients take the first chunk for the first token.
        delta = {"role": "assistant", "content": text} if is_first else {"content": text} if text else {}
        return {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish_reason}


def speculation_report(stats: DecodeStats) -> Json:
    """Return what `{"hedgespec": {"report": true}}` asks for. Definitions differ between servers; these are ours.

    rounds: target passes; drafts: passes that had a proposal to verify
    drafted, accepted: draft tokens, all nodes of a tree; accepted ones beyond the end of the answer count too
    mean_accepted_tokens: answer tokens / target passes; the token that the target adds to every pass is included
    acceptance_rate: accepted / drafted
    accepted_per_position: [p]: drafts of which at least p + 1 tokens were accepted
    rounds_per_drafter: passes it proposed in; in a merged round several drafters did, so the sum can exceed drafts
    drafted_per_drafter, accepted_per_drafter: tokens that it proposed itself, merged or not
    expected_passes: target passes that the drafter alone would have needed, for the tokens scored so far
    weights: the learner's, at the end of the answer
    migrations: times the answer moved to another target replica
    seconds: wall time of the decode loop; transport is contained in draft and verify
    """
    return {
        "rounds": stats.num_rounds,
        "drafts": stats.num_drafts,
        "drafted": stats.num_drafted,
        "accepted": stats.num_accepted,
        "mean_accepted_tokens": round(stats.mean_accepted_tokens, 4),
        "acceptance_rate": round(stats.acceptance_rate, 4),
        "accepted_per_position": stats.accepted_per_position,
        "rounds_per_drafter": stats.rounds_by_drafter,
        "drafted_per_drafter": stats.drafted_by_drafter,
        "accepted_per_drafter": stats.accepted_by_drafter,
        "expected_passes": {name: round(passes, 4) for name, passes in stats.expected_passes.items()},
        "weights": {name: round(weight, 6) for name, weight in stats.weights.items()},
        "migrations": stats.num_migrations,
        "seconds": {
            "draft": round(stats.draft_s, 6),
            "verify": round(stats.verify_s, 6),
            "learn": round(stats.learn_s, 6),
            "transport": round(stats.transport_s, 6),
            "overhead": round(stats.overhead_s, 6),
        },
    }
