"""The command `hedgespec generate`: continue a prompt in one process, without gRPC and Ray."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import asdict
from typing import Annotated
from uuid import uuid4

import typer

from deployments.commands.model_choice import chosen_args
from deployments.commands.option_types import ConfigInsteadOfModel, JsonFile, ModelName, Temperature
from deployments.commands.reports import console, write_json
from hedgespec.assembly.local_service import local_service
from hedgespec.assembly.model_sources import served_name
from hedgespec.types import DecodeStats, GenerationRequest, SamplingParams


def generate(
    prompt: Annotated[str, typer.Argument(help="Text to continue.")],
    max_tokens: Annotated[int, typer.Option(min=1, help="Tokens to generate at most.")] = 256,
    temperature: Temperature = 1.0,
    top_p: Annotated[float, typer.Option(min=0.0, max=1.0, help="Likeliest tokens of this total probability.")] = 1.0,
    top_k: Annotated[int, typer.Option(min=0, help="Sample from this many likeliest tokens; 0 is no limit.")] = 0,
    seed: Annotated[
        int | None, typer.Option(help="The same seed gives the same text, whichever drafters are used.")
    ] = None,
    stop: Annotated[list[str] | None, typer.Option(help="Stop string; may be repeated.")] = None,
    drafter: Annotated[str | None, typer.Option(help="Always use this drafter; 'none' turns speculation off.")] = None,
    chat: Annotated[bool, typer.Option(help="Wrap the prompt in the chat template.")] = False,
    model: ModelName = None,
    config: ConfigInsteadOfModel = None,
    json: JsonFile = None,
) -> None:
    """Continue a prompt and show how many tokens came from which drafters.

    By default with SmolLM2, which is fetched once, or with the zoo where it cannot be had.
    """
    args = chosen_args(config, model)
    model_name = served_name(args.target)
    sampling = SamplingParams(
        temperature=temperature, top_p=top_p, top_k=top_k, seed=seed, max_tokens=max_tokens, stop=tuple(stop or ())
    )

    async def run() -> tuple[str, DecodeStats | None]:
        text, stats = "", None
        async with local_service(args) as local:
            messages = [{"role": "user", "content": prompt}]
            ids = local.tokenizer.apply_chat_template(messages) if chat else local.tokenizer.encode(prompt)
            request = GenerationRequest(uuid4().hex, "default", ids, sampling, drafter=drafter)
            async with aclosing(local.service.generate(request)) as chunks:
                async for chunk in chunks:
                    console.print(chunk.text, end="", markup=False, highlight=False, soft_wrap=True)
                    text += chunk.text
                    stats = chunk.stats
        return text, stats

    text, stats = asyncio.run(run())
    assert stats is not None
    console.print()
    seconds = stats.draft_s + stats.verify_s + stats.learn_s + stats.overhead_s
    console.rule()
    console.print(
        f"{model_name}: {stats.num_emitted} tokens in {seconds:.2f} s "
        f"({stats.num_emitted / max(seconds, 1e-9):.0f} tokens/s), "
        f"{stats.num_rounds} target passes, {stats.mean_accepted_tokens:.2f} tokens per pass; rounds by drafter: "
        f"{dict(sorted(stats.rounds_by_drafter.items(), key=lambda item: -item[1]))}",
        highlight=False,
    )
    settings = {"model": model_name, "temperature": temperature, "seed": seed}
    write_json(json, {"text": text, **asdict(stats)}, command="generate", **settings)
