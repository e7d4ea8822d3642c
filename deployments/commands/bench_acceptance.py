"""The command `hedgespec bench acceptance`: how many tokens each drafter gets accepted in each domain."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from deployments.commands.inputs import changed, encoded, held_out_texts, num_prompts, read_args
from deployments.commands.option_types import JsonFile, MaxTokens, NumPrompts
from deployments.commands.reports import console, progress_bar, write_json

TEMPERATURES = (0.0, 1.0)


def acceptance(
    prompts: NumPrompts = 24,
    max_tokens: MaxTokens = 128,
    draft_tokens: Annotated[int, typer.Option(min=1, max=16, help="Longest draft, in tokens.")] = 5,
    card: Annotated[bool, typer.Option(help="Write the table into the zoo's model card.")] = False,
    json: JsonFile = None,
) -> None:
    """Mean accepted tokens of every drafter in every domain, at temperatures 0 and 1."""
    from hedgespec.assembly.local_service import local_service
    from hedgespec.bench.acceptance import AcceptanceTable, measure_acceptance, to_markdown
    from hedgespec.zoo.card import write_acceptance_table

    always_exact = {"max_draft_tokens": draft_tokens, "score_depth": "exact", "score_timeout_rounds": 1000}
    args = changed(read_args(None), "speculation", **always_exact)
    texts = held_out_texts(None, prompts)

    async def run() -> AcceptanceTable:
        async with local_service(args) as local:
            work = encoded(local.tokenizer, texts)
            with progress_bar("scoring", len(TEMPERATURES) * num_prompts(work)) as advance:
                return await measure_acceptance(local.service, work, TEMPERATURES, draft_tokens, max_tokens, advance)

    table = asyncio.run(run())
    markdown = to_markdown(table)
    console.print(markdown)
    if card:
        write_acceptance_table(markdown)
    write_json(json, table, command="bench acceptance")
