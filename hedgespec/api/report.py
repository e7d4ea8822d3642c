"""The speculation report is what a request may ask for with `{"hedgespec": {"report": true}}`."""

from __future__ import annotations

from pydantic import BaseModel, Field

from hedgespec.types import DecodeStats


class Seconds(BaseModel):
    """Wall time of the decode loop, in seconds. transport is contained in draft and verify."""

    draft: float
    verify: float
    learn: float
    transport: float
    overhead: float


class SpeculationReport(BaseModel):
    """How speculation went in one answer. Definitions differ between servers; ours stand at each field."""

    rounds: int = Field(description="target passes")
    drafts: int = Field(description="passes that had a proposal to verify")
    drafted: int = Field(description="draft tokens proposed, all nodes of a tree")
    accepted: int = Field(description="draft tokens accepted, those beyond the end of the answer included")
    mean_accepted_tokens: float = Field(
        description="answer tokens / target passes; the token that the target adds to every pass is included"
    )
    acceptance_rate: float = Field(description="accepted / drafted")
    accepted_per_position: list[int] = Field(description="[p]: drafts of which at least p + 1 tokens were accepted")
    rounds_per_drafter: dict[str, int] = Field(
        description="passes it proposed in; in a merged round several drafters did, so the sum can exceed drafts"
    )
    drafted_per_drafter: dict[str, int]
    accepted_per_drafter: dict[str, int] = Field(description="accepted tokens that it proposed itself, merged or not")
    expected_passes: dict[str, float] = Field(
        description="target passes that the drafter alone would have needed, for the tokens scored so far"
    )
    weights: dict[str, float] = Field(description="the learner's, at the end of the answer")
    migrations: int = Field(description="times the answer moved to another target replica")
    seconds: Seconds


def speculation_report(stats: DecodeStats) -> dict[str, object]:
    report = SpeculationReport(
        rounds=stats.num_rounds,
        drafts=stats.num_drafts,
        drafted=stats.num_drafted,
        accepted=stats.num_accepted,
        mean_accepted_tokens=round(stats.mean_accepted_tokens, 4),
        acceptance_rate=round(stats.acceptance_rate, 4),
        accepted_per_position=stats.accepted_per_position,
        rounds_per_drafter=stats.rounds_by_drafter,
        drafted_per_drafter=stats.drafted_by_drafter,
        accepted_per_drafter=stats.accepted_by_drafter,
        expected_passes={name: round(passes, 4) for name, passes in stats.expected_passes.items()},
        weights={name: round(weight, 6) for name, weight in stats.weights.items()},
        migrations=stats.num_migrations,
        seconds=Seconds(
            draft=round(stats.draft_s, 6),
            verify=round(stats.verify_s, 6),
            learn=round(stats.learn_s, 6),
            transport=round(stats.transport_s, 6),
            overhead=round(stats.overhead_s, 6),
        ),
    )
    return report.model_dump()
