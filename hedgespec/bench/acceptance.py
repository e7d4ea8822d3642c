"""Measure mean accepted tokens by drafter and domain from one decoded answer per prompt (`hedgespec bench acceptance`).

Every drafter is scored exactly on the same text (design 5, objective `rounds` with score_depth `exact`), so one answer
measures all of them: its tokens / the sum of u_t. At temperature 0 that sum is the number of passes that the drafter alone
would need; above 0 it is the expectation given the text, with less variance than decoding with each drafter.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hedgespec.bench.answers import Ratio, measure_answer, ratio
from hedgespec.router.service import GenerationService
from hedgespec.types import SamplingParams


@dataclass(frozen=True, slots=True)
class AcceptanceTable:
    """Mean accepted tokens as cells[temperature][domain][drafter_id].

    num_tokens[temperature][domain]: emitted tokens that a row is computed from
    """

    max_draft_tokens: int
    num_prompts: int
    max_tokens: int
    cells: dict[str, dict[str, dict[str, Ratio]]]
    num_tokens: dict[str, dict[str, int]]


async def measure_acceptance(
    service: GenerationService,
    prompts: Mapping[str, Sequence[NDArray[np.int32]]],
    temperatures: Sequence[float],
    max_draft_tokens: int,
    max_tokens: int,
    advance: Callable[[], None],
) -> AcceptanceTable:
    """Decode every prompt at every temperature and compute the table.

    prompts: by domain. advance: called after every answer (progress bar).
    """
    cells: dict[str, dict[str, dict[str, Ratio]]] = {}
    totals: dict[str, dict[str, int]] = {}
    for temperature in temperatures:
        row_cells, row_totals = cells.setdefault(f"{temperature:g}", {}), totals.setdefault(f"{temperature:g}", {})
        for domain, domain_prompts in prompts.items():
            tokens: list[int] = []
            passes: dict[str, list[float]] = {}
            for prompt_ids in domain_prompts:
                sampling = SamplingParams(temperature=temperature, max_tokens=max_tokens)
                answer = await measure_answer(service, prompt_ids, sampling, drafter=None)
                await service.drain()
                advance()
                await asyncio.sleep(0)
                tokens.append(answer.stats.num_emitted)
                for drafter_id, value in answer.stats.expected_passes.items():
                    passes.setdefault(drafter_id, []).append(value)
            row_cells[domain] = {d: ratio(tokens, v) for d, v in passes.items() if len(v) == len(tokens)}
            row_totals[domain] = sum(tokens)
    num_prompts = min((len(p) for p in prompts.values()), default=0)
    return AcceptanceTable(max_draft_tokens, num_prompts, max_tokens, cells, totals)


def to_markdown(table: AcceptanceTable) -> str:
    """Return one Markdown table per temperature, with the best drafter of a row in bold."""
    lines = [
        f"Mean accepted tokens: emitted per target pass, the recovered or bonus token included. Draft length "
        f"{table.max_draft_tokens}, {table.num_prompts} held-out prompts per domain, answers of up to "
        f"{table.max_tokens} tokens, 95 % bootstrap intervals over prompts.",
    ]
    for temperature, rows in table.cells.items():
        drafters = list(dict.fromkeys(d for row in rows.values() for d in row))
        lines += ["", f"Temperature {temperature}:", "", "| domain | " + " | ".join(drafters) + " |"]
        lines.append("|---" * (len(drafters) + 1) + "|")
        for domain, row in rows.items():
            best = max((r.value for r in row.values()), default=0.0)
            shown = [_cell(row.get(d), best) for d in drafters]
            lines.append(f"| {domain} | " + " | ".join(shown) + " |")
    return "\n".join(lines) + "\n"


def _cell(value: Ratio | None, best: float) -> str:
    """Format one cell; a drafter that was not scored throughout every answer of the row has none."""
    if value is None:
        return "-"
    return f"**{value}**" if value.value == best else str(value)
