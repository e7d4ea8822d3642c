"""Measure plain decoding, every single drafter, learned selection and transformers side by side (`hedgespec bench decode`).

All arms take turns on each prompt: a noisy machine is noisy for all of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hedgespec.bench.answers import LEARNED, PLAIN, ArmResult, measure_answer
from hedgespec.protocols import Generator
from hedgespec.types import SamplingParams

Baseline = Callable[[NDArray[np.int32], SamplingParams], tuple[int, float]]
"""Another decoder: (prompt ids, parameters) -> (emitted tokens, seconds)"""


@dataclass(frozen=True, slots=True)
class DecodeReport:
    """results[domain][arm].

    drafter_ids: the arms that are a single drafter. same_text: how many answers equal plain decoding's, where they must.
    """

    temperature: float
    max_tokens: int
    drafter_ids: tuple[str, ...]
    results: dict[str, dict[str, ArmResult]]
    same_text: dict[str, str]

    @property
    def learned_over_fastest(self) -> dict[str, float]:
        """Tokens/s of learned selection / of the fastest single drafter, by domain."""
        return {domain: speed for domain, arms in self.results.items() if (speed := self._over_fastest(arms))}

    @property
    def learned_over_plain(self) -> dict[str, float]:
        """Tokens/s of learned selection / of plain decoding, by domain."""
        return {
            domain: arms[LEARNED].tokens_per_s.value / arms[PLAIN].tokens_per_s.value
            for domain, arms in self.results.items()
        }

    def _over_fastest(self, arms: Mapping[str, ArmResult]) -> float | None:
        singles = [arms[drafter].tokens_per_s.value for drafter in self.drafter_ids]
        return arms[LEARNED].tokens_per_s.value / max(singles) if singles else None

    @property
    def learned_share(self) -> dict[str, float]:
        """Mean accepted tokens of learned selection / of the best single drafter, by domain."""
        shares = {}
        for domain, arms in self.results.items():
            single = [arms[drafter].mean_accepted_tokens.value for drafter in self.drafter_ids]
            if single:
                shares[domain] = arms[LEARNED].mean_accepted_tokens.value / max(single)
        return shares

    def as_json(self) -> dict[str, Any]:
        """Return the report with its derived figures, so that a reader of the JSON does not have to compute them."""
        return {
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
            "learned_share_of_best_single": self.learned_share,
            "learned_over_fastest_single": with_mean(self.learned_over_fastest),
            "learned_over_plain": with_mean(self.learned_over_plain),
            "same_text": self.same_text,
            "domains": self.results,
        }


def with_mean(by_domain: Mapping[str, float]) -> dict[str, float]:
    """Add the mean over the domains."""
    return {**by_domain, "mean": sum(by_domain.values()) / len(by_domain)} if by_domain else {}


async def measure_decode(
    generator: Generator,
    drafter_ids: Sequence[str],
    prompts: Mapping[str, Sequence[NDArray[np.int32]]],
    sampling: SamplingParams,
    baselines: Mapping[str, Baseline],
    advance: Callable[[], None],
) -> DecodeReport:
    """Decode every prompt plainly, with each drafter alone, with learned selection and with the baselines.

    prompts: by domain. advance: called after every answer.
    """
    arms: dict[str, str | None] = {PLAIN: "none", **{d: d for d in drafter_ids}, LEARNED: None}
    results: dict[str, dict[str, ArmResult]] = {}
    equal, compared = 0, 0
    for domain, domain_prompts in prompts.items():
        row = results.setdefault(domain, {name: ArmResult() for name in (*arms, *baselines)})
        for prompt_ids in domain_prompts:
            plain_text = ""
            for name, drafter in arms.items():
                answer = await measure_answer(generator, prompt_ids, sampling, drafter)
                row[name].add(answer)
                if name == PLAIN:
                    plain_text = answer.text
                elif sampling.method != "rejection":
                    compared += 1
                    equal += answer.text == plain_text
                advance()
            for name, baseline in baselines.items():
                num_tokens, seconds = baseline(prompt_ids, sampling)
                row[name].add_counts(num_tokens, num_tokens, seconds)
                advance()
    same_text = {"equal_to_plain": f"{equal} of {compared}"} if compared else {}
    return DecodeReport(sampling.temperature, sampling.max_tokens, tuple(drafter_ids), results, same_text)


def transformers_baselines(target_folder: Path, max_draft_tokens: int) -> dict[str, Baseline]:
    """Return transformers on the same weights, float32 on the CPU: `generate` with a growing cache (`hf generate`) and with
    a static one (`hf static`), and assisted generation by prompt lookup with our draft length (`hf assisted`).

    There is no compiled variant: torch.compile on the CPU needs a C++ compiler at run time.
    """
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(target_folder, dtype=torch.float32, local_files_only=True).eval()

    def run(prompt_ids: NDArray[np.int32], sampling: SamplingParams, options: Mapping[str, Any]) -> tuple[int, float]:
        ids = torch.as_tensor(prompt_ids, dtype=torch.long)[None]
        settings: dict[str, Any] = {"max_new_tokens": sampling.max_tokens, "do_sample": sampling.temperature > 0.0}
        if sampling.temperature > 0.0:
            settings |= {"temperature": sampling.temperature, "top_k": 0, "top_p": 1.0}
        if sampling.ignore_eos:
            settings |= {"eos_token_id": None}
        started = time.perf_counter()
        with torch.inference_mode():
            output = model.generate(ids, attention_mask=torch.ones_like(ids), **settings, **options)
        return int(output.shape[1]) - len(prompt_ids), time.perf_counter() - started

    return {
        "hf generate": partial(run, options={}),
        "hf static": partial(run, options={"cache_implementation": "static"}),
        "hf assisted": partial(run, options={"prompt_lookup_num_tokens": max_draft_tokens}),
    }
