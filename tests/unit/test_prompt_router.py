"""The prompt classifier that the learner is compared with."""

from __future__ import annotations

from hedgespec import zoo
from hedgespec.bench.prompt_router import PromptRouter, rewritten


def test_the_router_is_right_on_held_out_prompts_and_wrong_behind_a_foreign_document() -> None:
    """Trained on the validation prompts: at least 85 % of the test prompts, at most 20 % of the rewritten ones."""
    router = PromptRouter.train({d: zoo.held_out_prompts(d, "validation") for d in zoo.DOMAINS})
    test = {d: zoo.held_out_prompts(d)[:16] for d in zoo.DOMAINS}
    context = {d: zoo.held_out_prompts(d)[16:] for d in zoo.DOMAINS}
    assert router.accuracy(test) >= 0.85
    assert router.accuracy(rewritten(test, context)) <= 0.2


def test_a_rewritten_prompt_ends_with_the_prompt_behind_at_least_twice_its_length() -> None:
    prompts = {"a": ["x" * 30], "b": ["y" * 10]}
    changed = rewritten(
        prompts, {"a": ["doc of a"], "b": ["one", "document of b that is long enough for two of x " * 2]}
    )
    assert changed["a"][0].endswith("\n\n" + "x" * 30)
    assert "document of b" in changed["a"][0]
    assert changed["b"][0].startswith("doc of a")
