"""The policies benchmark decodes with live policies side by side, on exact models."""

from __future__ import annotations

import math

import numpy as np

from hedgespec.assembly.local_service import local_service
from hedgespec.bench.policies import ALL, Policy, measure_policies, tree_policies, with_trees
from hedgespec.bench.prompt_router import mixed
from hedgespec.types import SamplingParams
from tests.toy_args import NEAR_AND_FAR


async def test_every_policy_decodes_every_prompt_and_the_shares_follow() -> None:
    """Plain decoding emits one token per pass; the learner lies between the two drafters and knows the better one."""
    prompts = {
        "one": [np.arange(5, dtype=np.int32)],
        "two": [np.arange(7, dtype=np.int32), np.arange(3, dtype=np.int32)],
    }
    num_answers = 0

    def advance() -> None:
        nonlocal num_answers
        num_answers += 1

    async with local_service(NEAR_AND_FAR) as local:
        policies = [
            Policy("plain", local.service, lambda domain, index: "none"),
            Policy("near", local.service, lambda domain, index: "near"),
            Policy("far", local.service, lambda domain, index: "far"),
            Policy("learned", local.variant(NEAR_AND_FAR), lambda domain, index: None),
        ]
        samplings = [SamplingParams(temperature=0.0, max_tokens=60)]
        report = await measure_policies(policies, prompts, samplings, 2, advance)
    assert num_answers == 4 * 3 * 2
    mix = report.results["0"][ALL]
    assert [len(r.tokens) for r in mix.values()] == [6, 6, 6, 6]
    assert mix["plain"].mean_accepted_tokens.value == 1.0
    assert mix["far"].mean_accepted_tokens.value < mix["learned"].mean_accepted_tokens.value
    assert mix["plain"].share_of_best_fixed is None
    share = mix["learned"].share_of_best_fixed
    assert share is not None
    assert 0.5 < share.value <= 1.2
    assert math.isclose(sum(mix["near"].passes), sum(mix["learned"].best_fixed), rel_tol=0.05)
    assert set(report.as_json()["temperatures"]["0"]) == {"one", "two", ALL}


def test_mixed_prompts_join_two_different_domains() -> None:
    prompts = {"a": ["a0", "a1"], "b": ["b0"], "c": ["c0", "c1", "c2"]}
    texts = mixed(prompts, 8)
    assert len(texts) == 8
    assert all(text[0] != text.split("\n")[1][0] for text in texts)
    assert len({(text[0], text.split("\n")[1][0]) for text in texts}) == 6, "every ordered pair of domains"


async def test_tree_policies_have_the_same_node_budget() -> None:
    """Each drafter's tree alone, the learner's choice, and merged trees decode the same text at temperature 0."""
    prompts = {"one": [np.arange(5, dtype=np.int32)]}
    async with local_service(NEAR_AND_FAR) as local:
        policies = tree_policies(NEAR_AND_FAR, local.variant)
        assert [policy.name for policy in policies] == [
            "tree of near",
            "tree of far",
            "tree",
            "merged trees of 2",
            "merged trees of 3",
        ]
        assert {with_trees(NEAR_AND_FAR, count).speculation.num_nodes for count in (1, 2, 3)} == {12}
        samplings = [SamplingParams(temperature=0.0, max_tokens=40)]
        report = await measure_policies(policies, prompts, samplings, 1, lambda: None)
    row = report.results["0"]["one"]
    assert {tuple(result.tokens) for result in row.values()} == {(40,)}
    assert row["tree of near"].passes < row["tree of far"].passes
