"""Random models whose drafts are accepted as often as asked for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from deployments.cli import app
from hedgespec.bench.answers import measure_answer
from hedgespec.bench.synthetic import Hits, expected_tokens, random_prompts, synthetic_service
from hedgespec.speculative.verification import VerifyContext
from hedgespec.types import DraftTree, SamplingParams

RATES = [0.9, 0.5, 0.0]


async def tokens_a_round(drafters: Sequence[str | None], num_answers: int, *, use_graphs: bool) -> list[float]:
    prompts = random_prompts(num_answers, 20, 4096)
    sampling = [
        SamplingParams(temperature=0.0, max_tokens=150, ignore_eos=True, seed=seed) for seed in range(num_answers)
    ]
    found = []
    async with synthetic_service("tiny", RATES, "cpu", 2, 170, use_graphs=use_graphs) as service:
        for drafter in drafters:
            work = zip(prompts, sampling, strict=True)
            stats = [(await measure_answer(service, prompt, params, drafter)).stats for prompt, params in work]
            found.append(sum(s.num_emitted for s in stats) / sum(s.num_rounds for s in stats))
    return found


@pytest.mark.timeout(300)
async def test_tokens_a_round_are_those_of_the_acceptance_and_the_best_head_is_found() -> None:
    """Seeds make the draws the same in each run."""
    plain, *heads, learned = await tokens_a_round(["none", "head0", "head1", "head2", None], 3, use_graphs=False)
    assert plain == heads[2] == 1.0
    for found, rate in zip(heads, RATES, strict=True):
        assert found == pytest.approx(expected_tokens(rate), rel=0.15)
    assert learned > 0.8 * heads[0]


async def test_static_passes_give_the_same_rounds() -> None:
    with_graphs, without = [await tokens_a_round(["head0"], 1, use_graphs=use_graphs) for use_graphs in (True, False)]
    assert with_graphs == without


def test_drafts_are_cut_at_their_first_miss_and_the_targets_own_token_follows() -> None:
    hits = Hits({"a": 0.7, "b": 1.0, "c": 0.0})
    logits = torch.randn(3 * 4, 50, generator=torch.Generator().manual_seed(0))
    tokens = np.array([60, 61, 62])
    for seed in range(50):
        trees = [DraftTree.chain(tokens, drafter_id=name) for name in ("a", "b", "c")]
        contexts = [VerifyContext(SamplingParams(temperature=0.0), seed, 10 + i) for i in range(3)]
        expected = hits.of("a", seed, 10, 3).tolist()
        num_kept = [[*expected, False].index(False), 3, 0]
        for index, verdict in enumerate(hits.decide(trees, logits, contexts)):
            own = int(logits[4 * index + num_kept[index]].argmax())
            assert verdict.token_ids.tolist() == [*tokens[: num_kept[index]], own]
            assert verdict.accepted_nodes.tolist() == list(range(num_kept[index]))


def test_the_command_writes_its_report(tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    asked = ["--max-tokens", "12", "--prompt", "8", "--repeats", "1", "--concurrency", "2", "--acceptance", "1.0"]
    result = CliRunner().invoke(app, ["bench", "synthetic", *asked, "--json", str(file)])
    assert result.exit_code == 0, result.output
    report = json.loads(file.read_text())["report"]
    assert set(report["arms"]) == {"plain", "head0", "learned"}
    assert report["arms"]["head0"]["2"]["mean_accepted_tokens"] == 6.0
    assert report["arms"]["plain"]["1"]["mean_accepted_tokens"] == 1.0


def test_a_text_that_does_not_fit_the_shape_is_refused() -> None:
    result = CliRunner().invoke(app, ["bench", "synthetic", "--prompt", "4000", "--max-tokens", "200"])
    assert result.exit_code == 2
    assert "4096 tokens" in result.output
