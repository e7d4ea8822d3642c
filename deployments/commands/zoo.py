"""The command `hedgespec zoo`: build the embedded target and its drafters from nothing."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from deployments.commands.reports import console, share_bar

app = typer.Typer(no_args_is_help=True, help="Build the embedded target and its drafters.")


class Preset(Enum):
    """The recipes of a build."""

    cpu = "cpu"
    gpu = "gpu"


@app.command()
def build(
    out: Annotated[Path, typer.Option(help="Folder for the zoo; a stopped build in it continues.")] = Path("zoo"),
    preset: Annotated[Preset, typer.Option(help="gpu: the same shapes, more text, far more steps.")] = Preset.cpu,
    seed: Annotated[int, typer.Option(min=0, help="Seed of data, initial weights and order.")] = 0,
    workers: Annotated[
        int, typer.Option(min=1, help="Heads trained side by side, each in a process of one thread.")
    ] = 1,
    target_minutes: Annotated[
        float | None, typer.Option(min=0.1, help="End the target's training after this many minutes.")
    ] = None,
) -> None:
    """Build corpus, tokenizer, target, a generic head, six domain heads, held-out prompts and the model card."""
    from hedgespec.zoo.build import build_zoo
    from hedgespec.zoo.settings import preset_settings

    settings = preset_settings(preset.value, out, seed, workers=workers, target_minutes=target_minutes)
    with share_bar() as progress:
        build_zoo(settings, progress)
    console.print(f"The zoo is in {out}. Use it: HEDGESPEC_ZOO={out} hedgespec serve")
    console.print(f"Measure it: HEDGESPEC_ZOO={out} hedgespec bench acceptance --card")
