"""The command `hedgespec train-drafter`: train an EAGLE-3 head for a target and a text."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from deployments.commands.option_types import OnDevice
from deployments.commands.reports import console, share_bar


def train_drafter(
    target: Annotated[Path, typer.Option(help="Folder of the target: safetensors and tokenizer.json.")],
    text: Annotated[
        Path, typer.Option(help="A text file, or a folder of them, of the domain that the drafter is for.")
    ],
    out: Annotated[Path, typer.Option(help="Folder to write the head to.")],
    steps: Annotated[int | None, typer.Option(min=1, help="Training steps (default: those of the recipe).")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of data order and initial weights.")] = 0,
    device: OnDevice = "cpu",
    resume: Annotated[bool, typer.Option(help="Continue an interrupted run in OUT.")] = False,
) -> None:
    """Train an EAGLE-3 head for a target on a domain's text and on the target's own continuations of it."""
    from hedgespec.training.train_drafter import DrafterSettings
    from hedgespec.training.train_drafter import train_drafter as train

    settings = DrafterSettings(seed=seed, device=device)
    if steps is not None:
        settings = replace(settings, steps=steps)
    with share_bar() as progress:
        train(target, text, out, settings, resume=resume, progress=progress)
    console.print(f"The head is in {out}. Add it to a configuration as: {{id: NAME, kind: eagle3, model: {out}}}")
