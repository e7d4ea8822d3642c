"""Every way to speculate that a configuration offers leaves the text unchanged and has its drafts accepted."""

from __future__ import annotations

from uuid import uuid4

import pytest
from pydantic import ValidationError

from hedgespec.assembly.local_service import LocalService, local_service
from hedgespec.config import AppArgs, SpeculationConfig
from hedgespec.types import DecodeStats, GenerationRequest, SamplingParams

SAMPLINGS: tuple[dict[str, object], ...] = (
    {"temperature": 0.0, "max_tokens": 40},
    {"temperature": 1.0, "seed": 11, "max_tokens": 40},
)
SETTINGS: dict[str, dict[str, object]] = {
    "schedule": {"score_dense_rounds": 2, "score_every": 5},
    "naps": {"score_dense_rounds": 2, "sleep_weight": 0.2, "wake_every_rounds": 6},
    "prompt": {"prompt_scores": 8, "warm_wait_fraction": 1.0},
    "tree": {"draft_form": "tree", "branching": 3, "num_nodes": 12},
    "iid": {"draft_form": "iid", "branching": 2},
    "distinct": {"draft_form": "distinct", "branching": 2, "num_nodes": 9},
    "merged chains": {"merge_drafters": 3, "num_nodes": 12},
    "merged trees": {"draft_form": "tree", "branching": 2, "num_nodes": 16, "merge_drafters": 2},
    "merged distinct": {"draft_form": "distinct", "branching": 2, "num_nodes": 16, "merge_drafters": 2},
    "all at once": {
        "draft_form": "tree",
        "branching": 3,
        "num_nodes": 20,
        "merge_drafters": 3,
        "prompt_scores": 8,
        "score_dense_rounds": 2,
        "score_every": 3,
        "sleep_weight": 0.2,
        "wake_every_rounds": 6,
        "score_depth": "exact",
    },
}


def args_of(speculation: dict[str, object], **learner: object) -> AppArgs:
    drafters = [
        {"id": "near", "kind": "tabular", "model": "tabular:1,closeness=0.9"},
        {"id": "far", "kind": "tabular", "model": "tabular:2,closeness=0.3"},
        {"id": "ngram", "kind": "ngram"},
    ]
    # a loaded machine must neither miss a draft nor close a position without a thread that is late: lossless, but no test
    settings = {"draft_deadline_s": 60.0, "score_timeout_rounds": 10_000, **speculation}
    chosen = {"objective": "rounds", **learner}  # by time, no speculation would win against models that compute nothing
    return AppArgs.model_validate(
        {"target": {"model": "tabular:7"}, "drafters": drafters, "speculation": settings, "learner": chosen}
    )


async def answer(
    local: LocalService, drafter: str | None, sampling: dict[str, object], max_draft_tokens: int | None = None
) -> tuple[str, DecodeStats]:
    request = GenerationRequest(
        request_id=uuid4().hex,
        tenant="acme",
        prompt_ids=local.tokenizer.encode("the cat sat on the mat. "),
        sampling=SamplingParams(**{"max_tokens": 80, **sampling}),  # type: ignore[arg-type]
        drafter=drafter,
        max_draft_tokens=max_draft_tokens,
    )
    chunks = [chunk async for chunk in local.service.generate(request)]
    await local.service.drain()
    assert chunks[-1].stats is not None
    return "".join(chunk.text for chunk in chunks), chunks[-1].stats


@pytest.mark.parametrize("name", SETTINGS)
async def test_text_at_temperature_0_and_with_a_seed_is_the_targets_own(name: str) -> None:
    """The text is the same with the learner, a pinned drafter and switching; and drafts are accepted, so it was not by
    giving up."""
    async with local_service(args_of(SETTINGS[name])) as local:
        for sampling in SAMPLINGS:
            plain, _ = await answer(local, "none", sampling)
            assert len(plain) == 40
            for drafter in (None, "near", "random"):
                text, stats = await answer(local, drafter, sampling)
                assert text == plain
                assert sum(stats.accepted_by_drafter.values()) == stats.num_accepted
                if drafter != "random":
                    assert stats.num_accepted > 0
                    assert stats.num_drafts >= stats.num_rounds - 2, "no draft was refused"


@pytest.mark.parametrize("objective", ["rounds", "acceptance", "length", "length_product", "time"])
@pytest.mark.parametrize("follow", ["sample", "leader"])
async def test_every_objective_serves_with_backlogs_and_naps(objective: str, follow: str) -> None:
    """Settled answers know the passes of every drafter that did not sleep, the tail behind a stop string included."""
    speculation: dict[str, object] = {"score_dense_rounds": 1, "score_every": 7, "wake_every_rounds": 0}
    if objective == "time":
        speculation["draft_lengths"] = (2, 5)
    async with local_service(args_of(speculation, objective=objective, follow=follow)) as local:
        plain, _ = await answer(local, "none", {"temperature": 0.0})
        text, stats = await answer(local, None, {"temperature": 0.0})
        assert text == plain
        assert set(stats.expected_passes) == {"near", "far", "ngram"}
        assert stats.expected_passes["near"] == min(stats.expected_passes.values())
        cut, stats = await answer(local, None, {"temperature": 0.0, "stop": (plain[40:43],)})
        assert cut == plain[: plain.index(plain[40:43])]
        assert set(stats.expected_passes) == {"near", "far", "ngram"}


async def test_a_drafter_that_wins_while_the_others_sleep_is_preferred_next_time() -> None:
    """Losers that were not scored to the end have lost: otherwise naps would keep preferences from being learned."""
    speculation: dict[str, object] = {"score_dense_rounds": 1, "score_every": 1, "wake_every_rounds": 1000}
    async with local_service(args_of({**speculation, "sleep_weight": 0.3})) as local:
        for _ in range(3):
            _, stats = await answer(local, None, {"temperature": 0.0, "max_tokens": 150})
        assert set(stats.expected_passes) == {"near"}
        _, first = await answer(local, None, {"temperature": 0.0, "max_tokens": 2})
        assert first.weights["near"] > 0.5


async def test_a_request_may_ask_for_shorter_drafts_in_every_form() -> None:
    short: dict[str, object] = {"temperature": 0.0, "max_tokens": 30}
    for name in ("tree", "merged chains", "distinct"):
        async with local_service(args_of(SETTINGS[name])) as local:
            plain, _ = await answer(local, "none", short)
            text, stats = await answer(local, None, short, max_draft_tokens=2)
            assert text == plain
            assert len(stats.accepted_per_position) <= 2
            assert stats.num_accepted > 0


@pytest.mark.parametrize(
    ("speculation", "message"),
    [
        ({"branching": 2}, "branching 2 needs"),
        ({"draft_form": "tree"}, "at least 2"),
        ({"num_nodes": 8}, "num_nodes is for"),
        ({"draft_form": "tree", "branching": 16, "max_draft_tokens": 16}, "set num_nodes"),
        ({"draft_lengths": (6,)}, "beyond max_draft_tokens"),
    ],
)
def test_forms_that_contradict_themselves_are_refused(speculation: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SpeculationConfig.model_validate(speculation)


@pytest.mark.parametrize(
    ("speculation", "learner", "message"),
    [
        ({"draft_lengths": (2,)}, {}, "needs learner.objective time"),
        ({"merge_drafters": 2}, {"objective": "time"}, "chooses one drafter"),
        (
            {"draft_form": "tree", "branching": 2, "draft_lengths": (2,)},
            {"objective": "time"},
            "scored at full length only",
        ),
        ({"draft_form": "tree", "branching": 2}, {"objective": "length"}, "needs the score of every position"),
    ],
)
def test_objectives_that_cannot_be_measured_are_refused(
    speculation: dict[str, object], learner: dict[str, object], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        args_of(speculation, **learner)
