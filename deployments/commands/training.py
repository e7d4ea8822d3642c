"""`hedgespec train-drafter`: an EAGLE-3 head for your target and your text."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from deployments.commands.reports import console, share_bar


def train_drafter(
    target: Annotated[Path, typer.Option(help="Folder of the target: safetensors and tokenizer.json.")],
    text: Annotated[Path, typer.Option(help="A text file, or a folder of them: what the drafter should be good at.")],
    out: Annotated[Path, typer.Option(help="Folder for the head.")],
    steps: Annotated[int | None, typer.Option(min=1)] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
    resume: Annotated[bool, typer.Option(help="Continue an interrupted run in OUT.")] = False,
) -> None:
    """Train an EAGLE-3 head with the training-time test, on domain text and the target's own continuations of it."""
    from hedgespec.training.drafter import DrafterSettings
    from hedgespec.training.drafter import train_drafter as train

    settings = DrafterSettings(seed=seed, device=device)
    if steps is not None:
        settings = replace(settings, steps=steps)
    with share_bar() as progress:
        train(target, text, out, settings, resume=resume, progress=progress)
    console.print(f"The head is in {out}. Add it to a configuration as: {{id: NAME, kind: eagle3, model: {out}}}")
