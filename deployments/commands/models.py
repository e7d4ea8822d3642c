"""The command `hedgespec models`: fetch a published model, list what is cached, and say what rounding changes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deployments.commands.inputs import read_args
from deployments.commands.model_choice import fetch, tell
from deployments.commands.option_types import ConfigFile, JsonFile, Threads
from deployments.commands.reports import progress_bar, show_table, write_json
from hedgespec.assembly.model_args import model_args
from hedgespec.assembly.model_cache import models_folder
from hedgespec.assembly.model_sources import load_tokenizer, located, resolved_target
from hedgespec.assembly.published import PUBLISHED
from hedgespec.config import Quantization
from hedgespec.errors import ConfigError

app = typer.Typer(no_args_is_help=True, help="Fetch published models, list those that are here, compare rounded ones.")


@app.command()
def get(
    name: Annotated[str, typer.Argument(help=f"The model to fetch: {', '.join(PUBLISHED)}.")],
    config: ConfigFile = None,
) -> None:
    """Fetch a published model once, check it and keep it under the state folder."""
    if name not in PUBLISHED:
        raise ConfigError(f"no published model {name!r}, only {', '.join(PUBLISHED)}")
    model = PUBLISHED[name]
    folder = fetch(model, read_args(config).state_dir)
    tell(f"{model.name} is in {folder}. Use it: hedgespec serve --model {model.name}")


@app.command("list")
def list_models(config: ConfigFile = None) -> None:
    """List the published models, and the folders that were made of GGUF files."""
    state_dir = read_args(config).state_dir
    published = {model.folder(state_dir): model for model in PUBLISHED.values()}
    for folder, model in published.items():
        typer.echo(f"{model.name}: {_size(folder) if folder.is_dir() else model.missing}")
    for folder in sorted(models_folder(state_dir).glob("[!.]*")):
        if folder.is_dir() and folder not in published:
            typer.echo(f"{folder.name}: {_size(folder)}")


@app.command()
def compare(
    model: Annotated[str, typer.Argument(help="`smollm2`, `zoo`, a folder or a GGUF file.")],
    quantization: Annotated[Quantization, typer.Option(help="How its weights are rounded.")] = "int8",
    tokens: Annotated[int, typer.Option(min=16, help="Held-out tokens of every domain.")] = 512,
    answers: Annotated[int, typer.Option(min=0, help="Answers of its own, of half as many tokens.")] = 6,
    threads: Threads = 1,
    json: JsonFile = None,
) -> None:
    """How far a rounded target is from its float32 weights, on held-out text and on its own greedy answers.

    Top-1 is the share of positions where both find the same token most probable; divergence is in nats a token.
    """
    import torch

    from hedgespec.bench.rounding import compare_rounded, num_texts

    torch.set_num_threads(threads)
    target = resolved_target(located(model_args(model)).target)
    tokenizer = load_tokenizer(target)
    with progress_bar("texts", num_texts(answers)) as advance:
        report = compare_rounded(Path(target.model), quantization, tokenizer, tokens, answers, advance)
    rows = [
        (
            name,
            str(a.num_tokens),
            f"{a.top1:.1%}",
            f"{a.perplexity:.3f}",
            f"{a.rounded_perplexity:.3f}",
            f"{a.divergence:.4f}",
        )
        for name, a in (*report.by_text.items(), ("total", report.total))
    ]
    show_table(
        f"{model} in {quantization} beside float32",
        ("text", "tokens", "same top-1", "perplexity float32", f"perplexity {quantization}", "divergence"),
        rows,
    )
    settings = {"model": model, "tokens": tokens, "answers": answers}
    write_json(json, report, command="models compare", **settings)


def _size(folder: Path) -> str:
    return f"{sum(file.stat().st_size for file in folder.iterdir()) / 1e6:.0f} MB in {folder}"
