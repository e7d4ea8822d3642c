"""Questions of a file are put to all arms: what prompts hold, what is carried over, how a stopped run goes on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from hedgespec.assembly.local_service import LocalService
from hedgespec.bench.questions.arms import arm_names, default_arm, question_arms
from hedgespec.bench.questions.conversation import Arm, Conversation, TenantPer, TurnAnswer, converse
from hedgespec.bench.questions.journal import Journal
from hedgespec.bench.questions.measure import alternating, fitting, measure_questions
from hedgespec.bench.questions.report import ALL, question_report
from hedgespec.errors import ConfigError
from hedgespec.store.record import PreferenceKey
from hedgespec.tokenization import Tokenizer
from tests.toy_args import NEAR_AND_FAR
from tests.toy_questions import QUESTIONS, toy_chat

DRAFTERS = ["near", "far"]
NAMES = arm_names(DRAFTERS, has_router=False)


async def asked(
    local: LocalService, journal: Journal, num_questions: int = 3, tenant_per: TenantPer = "question"
) -> Journal:
    arms = question_arms(NEAR_AND_FAR, local, None)
    questions = alternating(QUESTIONS)[:num_questions]
    await measure_questions(arms, questions, local.tokenizer, [0.0], 24, tenant_per, journal, lambda: None)
    return journal


async def test_every_arm_answers_every_turn_and_greedy_arms_share_the_text() -> None:
    """The table follows: plain decoding has 1 token per pass, the better drafter a share of 1, the learner one between."""
    async with toy_chat() as local:
        journal = await asked(local, Journal())
    assert len(journal.conversations) == 3 * len(NAMES)
    report = question_report(journal.conversations, NAMES, DRAFTERS, default_arm())
    num_answers = 5
    assert report.same_text == (num_answers * (len(NAMES) - 1), num_answers * (len(NAMES) - 1))
    assert set(report.sections["0"]) == {"writing", "maths", ALL}
    cells = report.sections["0"][ALL].cells
    assert {cell.answers for cell in cells.values()} == {num_answers}
    assert len({cell.tokens for cell in cells.values()}) == 1
    assert cells["plain"].mean_accepted_tokens.value == 1.0
    assert cells["near"].share_of_best_fixed.value == 1.0
    assert cells["far"].share_of_best_fixed.value < cells[default_arm()].share_of_best_fixed.value
    assert report.sections["0"][ALL].fastest_drafter in DRAFTERS
    assert report.sections["0"][ALL].learned_over["far"].value > 1.0
    shares = [c.mean_accepted_tokens.value for c in cells.values()]
    assert json.loads(json.dumps(report.as_json()))["sections"]["0"][ALL]["cells"]["near"]["tokens"] > 0
    assert max(shares) <= 6.0


class Overheard:
    """A tokenizer that keeps the messages of every prompt."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.max_model_len = tokenizer.max_model_len
        self.prompts: list[list[dict[str, str]]] = []

    def apply_chat_template(self, messages: Sequence[dict[str, str]]) -> NDArray[np.int32]:
        self.prompts.append([dict(message) for message in messages])
        return self._tokenizer.apply_chat_template(messages)


def arm_of(arms: Sequence[Arm], name: str) -> Arm:
    return next(arm for arm in arms if arm.name == name)


async def test_the_second_turn_holds_the_first_answer() -> None:
    async with toy_chat() as local:
        heard = Overheard(local.tokenizer)
        arm = arm_of(question_arms(NEAR_AND_FAR, local, None), "near")
        conversation = await converse(arm, QUESTIONS[0], 0.0, 24, heard, "question")  # type: ignore[arg-type]
    first, second = heard.prompts
    assert [m["role"] for m in second] == ["user", "assistant", "user"]
    assert [first[0]["content"], second[2]["content"]] == list(QUESTIONS[0].turns)
    assert second[1]["content"]
    assert len(conversation.answers) == 2


async def test_an_answer_ends_at_its_end_token() -> None:
    """Some toy answer meets the end token before the limit, and none goes on after it."""
    async with toy_chat() as local:
        arm = arm_of(question_arms(NEAR_AND_FAR, local, None), "plain")
        had = [await converse(arm, q, 0.0, 200, local.tokenizer, "question") for q in QUESTIONS]
    lengths = [answer.tokens for c in had for answer in c.answers]
    assert min(lengths) < max(lengths) == 200


@pytest.mark.parametrize("tenant_per", ["question", "category", "run"])
async def test_preferences_reach_the_next_turn_and_the_tenants_next_question(tenant_per: TenantPer) -> None:
    """The second turn of a question starts from the first one's winner; who else does is the tenant's matter."""
    async with toy_chat() as local:
        arm = arm_of(question_arms(NEAR_AND_FAR, local, None), default_arm())
        priors: list[list[float]] = []
        original = arm.preferences.prior

        async def prior(key: object, ids: Sequence[str]) -> NDArray[np.float64]:
            vector = await original(key, ids)  # type: ignore[arg-type]
            priors.append(vector.tolist())
            return vector

        arm.preferences.prior = prior  # type: ignore[method-assign]
        for question in QUESTIONS:
            await converse(arm, question, 0.0, 24, local.tokenizer, tenant_per)
    first, second, same_category, other_category, _ = priors
    assert first == [0.5, 0.5]
    assert second[0] > 0.7
    assert (same_category[0] > 0.5) == (tenant_per != "question")
    assert (other_category[0] > 0.5) == (tenant_per == "run")


async def test_a_stopped_run_goes_on_with_what_it_had_learned(tmp_path: Path) -> None:
    """Nothing is asked twice, a line that was being written is asked again, and the report is the same from then on."""
    path = tmp_path / "journal.jsonl"
    async with toy_chat() as local:
        await asked(local, Journal.open(path, {"a": 1}), num_questions=1, tenant_per="run")
        before = path.read_text().splitlines()
        path.write_text("\n".join(before) + "\n" + before[-1][:40])
        journal = Journal.open(path, {"a": 1})
        assert len(journal.conversations) == len(NAMES)
        await asked(local, journal, tenant_per="run")
        assert path.read_text().splitlines()[: len(before)] == before
        again = Journal.open(path, {"a": 1})
        await asked(local, again, tenant_per="run")
    assert len(again.conversations) == 3 * len(NAMES)
    first, second = (question_report(j.conversations, NAMES, DRAFTERS, default_arm()) for j in (journal, again))
    assert first == second


async def test_preferences_are_learned_again_from_the_journal(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    async with toy_chat() as local:
        await asked(local, Journal.open(path, {}), num_questions=1, tenant_per="run")
        arm = arm_of(question_arms(NEAR_AND_FAR, local, None), default_arm())
        had = [c for c in Journal.open(path, {}).conversations if c.arm == arm.name]
        await measure_questions(
            [arm], QUESTIONS[2:], local.tokenizer, [0.0], 24, "run", Journal.open(path, {}), lambda: None
        )
        learned = had[0].answers[0].learned
        assert learned is not None
        prior = await arm.preferences.prior(
            PreferenceKey(**learned["key"]), list(learned["outcome"]["expected_passes"])
        )
    assert prior[0] > 0.7


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("something else\n", "line 1"),
        ('{"format":"other","settings":{}}\n', "format"),
        ('{"format":"hedgespec answers to questions, 1","settings":{"a":2}}\n', "a 2, not 1"),
        ('{"format":"hedgespec answers to questions, 1","settings":{"a":1}}\n{"question_id":"1"}\n', "line 2"),
        ("no line at all", "no journal"),
    ],
)
def test_a_file_that_is_not_this_runs_journal_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_text(text)
    with pytest.raises(ConfigError, match=complaint):
        Journal.open(path, {"a": 1})
    assert path.read_text() == text


def test_the_report_leaves_out_what_not_every_arm_has_finished() -> None:
    def had(question: str, arm: str, passes: float) -> Conversation:
        return Conversation(question, "c", 0.0, arm, (TurnAnswer(12, passes, 1.0, "d"),))

    own = [had("1", "near", 4.0), had("1", "far", 6.0), had("2", "near", 3.0)]
    report = question_report(own, ["near", "far"], ["near", "far"], "learned")
    assert (report.num_questions, report.num_left_out) == ({"0": 1}, 1)
    cells = report.sections["0"]["c"].cells
    assert cells["far"].mean_accepted_tokens.value == 2.0
    assert cells["far"].share_of_best_fixed.value == pytest.approx(4 / 6)
    assert cells["far"].over_plain is None
    with pytest.raises(ConfigError, match="--resume"):
        question_report(own[2:], ["near", "far"], ["near", "far"], "learned")


def test_the_best_fixed_drafter_is_that_of_each_answer() -> None:
    """Each drafter wins one answer, so an arm that is always as good as the winner beats both drafters' share."""

    def had(question: str, arm: str, passes: float) -> Conversation:
        return Conversation(question, "c", 0.7, arm, (TurnAnswer(12, passes, None, "d"),))

    passes = {"near": (3, 6), "far": (6, 3), "learned": (3, 3)}
    own = [had(str(q), arm, p) for arm, both in passes.items() for q, p in enumerate(both)]
    section = question_report(own, list(passes), ["near", "far"], "learned").sections["0.7"][ALL]
    assert {arm: cell.share_of_best_fixed.value for arm, cell in section.cells.items()} == {
        "near": 0.75,
        "far": 0.75,
        "learned": 1.0,
    }
    assert section.learned_over["near"].value == 1.5
    assert section.speed_share is None


async def test_questions_need_a_chat_template_and_room() -> None:
    async with toy_chat() as local:
        assert fitting(QUESTIONS, local.tokenizer, local.tokenizer.max_model_len) == []
        assert fitting(QUESTIONS, local.tokenizer, 24) == QUESTIONS
        with pytest.raises(ConfigError, match="chat template"):
            fitting(QUESTIONS, replace(local.tokenizer, chat_template=None), 24)


def test_a_drafter_that_is_named_like_another_arm_is_refused() -> None:
    with pytest.raises(ConfigError, match="ucbspec"):
        arm_names(["ucbspec", "near"], has_router=False)
    with pytest.raises(ConfigError, match="none are configured"):
        arm_names([], has_router=False)
