"""The command `hedgespec models`: fetch a published model, and list what is cached."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deployments.commands.inputs import read_args
from deployments.commands.model_choice import fetch, tell
from deployments.commands.option_types import ConfigFile
from hedgespec.assembly.model_cache import models_folder
from hedgespec.assembly.published import PUBLISHED
from hedgespec.errors import ConfigError

app = typer.Typer(no_args_is_help=True, help="Fetch published models and list those that are here.")


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


def _size(folder: Path) -> str:
    return f"{sum(file.stat().st_size for file in folder.iterdir()) / 1e6:.0f} MB in {folder}"
