"""Plain decoding, every single drafter and learned selection side by side, with transformers' `generate` on the same
weights (`hedgespec bench decode`). All arms take turns on each prompt: a noisy machine is noisy for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hedgespec.bench.answers import measure_answer
from hedgespec.bench.estimates import Ratio, ratio
from hedgespec.protocols import Generator
from hedgespec.types import DecodeStats, SamplingParams

PLAIN, LEARNED = "plain", "learned"

Baseline = Callable[[NDArray[np.int32], SamplingParams], tuple[int, float]]
"""A competitor: (prompt ids, parameters) -> (emitted tokens, seconds)."""


@dataclass(slots=True)
class ArmResult:
    """One arm on one domain; entries are per prompt. `split_s`: seconds of all rounds by part."""

    tokens: list[int] = field(default_factory=list)
    passes: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    split_s: dict[str, float] = field(default_factory=dict)

    def add(self, num_tokens: int, num_passes: int, seconds: float, stats: DecodeStats | None = None) -> None:
        self.tokens.append(num_tokens)
        self.passes.append(num_passes)
        self.seconds.append(seconds)
        for part in ("draft", "verify", "transport", "learn", "overhead") if stats is not None else ():
            self.split_s[part] = self.split_s.get(part, 0.0) + float(getattr(stats, f"{part}_s"))

    @property
    def mean_accepted_tokens(self) -> Ratio:
        return ratio(self.tokens, self.passes)

    @property
    def tokens_per_s(self) -> Ratio:
        return ratio(self.tokens, self.seconds)

    @property
    def round_ms(self) -> dict[str, float]:
        """Mean milliseconds of a round by part; transport is contained in draft and verify."""
        rounds = max(1, sum(self.passes))
        return {part: 1e3 * seconds / rounds for part, seconds in self.split_s.items()}


@dataclass(frozen=True, slots=True)
class DecodeReport:
    """results[domain][arm]. learned_share: learned / best single drafter in mean accepted tokens, per domain."""

    temperature: float
    max_tokens: int
    results: dict[str, dict[str, ArmResult]]
    same_text: dict[str, str]

    @property
    def learned_share(self) -> dict[str, float]:
        shares = {}
        for domain, arms in self.results.items():
            single = [
                r.mean_accepted_tokens.value
                for name, r in arms.items()
                if not name.startswith(("hf", "plain", LEARNED))
            ]
            if single and LEARNED in arms:
                shares[domain] = arms[LEARNED].mean_accepted_tokens.value / max(single)
        return shares


async def measure_decode(
    generator: Generator,
    drafter_ids: Sequence[str],
    prompts: Mapping[str, Sequence[NDArray[np.int32]]],
    sampling: SamplingParams,
    baselines: Mapping[str, Baseline],
    advance: Callable[[], None],
) -> DecodeReport:
    """Arms: plain, each drafter pinned, learned with a uniform start, then the baselines."""
    arms: dict[str, str | None] = {PLAIN: "none", **{d: d for d in drafter_ids}, LEARNED: None}
    results: dict[str, dict[str, ArmResult]] = {}
    equal, compared = 0, 0
    for domain, domain_prompts in prompts.items():
        row = results.setdefault(domain, {name: ArmResult() for name in (*arms, *baselines)})
        for prompt_ids in domain_prompts:
            plain_text = ""
            for name, drafter in arms.items():
                answer = await measure_answer(generator, prompt_ids, sampling, drafter)
                row[name].add(answer.stats.num_emitted, answer.stats.num_rounds, answer.seconds, answer.stats)
                if name == PLAIN:
                    plain_text = answer.text
                elif sampling.method != "rejection":
                    compared += 1
                    equal += answer.text == plain_text
                advance()
            for name, baseline in baselines.items():
                num_tokens, seconds = baseline(prompt_ids, sampling)
                row[name].add(num_tokens, num_tokens, seconds)
                advance()
    same_text = {"equal_to_plain": f"{equal} of {compared}"} if compared else {}
    return DecodeReport(sampling.temperature, sampling.max_tokens, results, same_text)
