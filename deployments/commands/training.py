"""The commands `hedgespec train-drafter`, for a head of your own, and `hedgespec zoo`, for the embedded models."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import typer

from deployments.commands.option_types import OnDevice
from deployments.commands.reports import console, share_bar

zoo_app = typer.Typer(no_args_is_help=True, help="Build the embedded target and its drafters.")


def train_drafter(
    target: Annotated[Path, typer.Option(help="Folder of the target: safetensors and tokenizer.json.")],
    text: Annotated[Path, typer.Option(help="A text file, or a folder of them, of the drafter's domain.")],
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


@zoo_app.command()
def build(
    out: Annotated[Path, typer.Option(help="Folder for the zoo; a stopped build in it continues.")] = Path("zoo"),
    target: Annotated[
        Literal["own", "smollm2"],
        typer.Option(help="own: a target, too, with its heads. smollm2: the heads shipped for SmolLM2 (hours)."),
    ] = "own",
    preset: Annotated[
        Literal["cpu", "gpu"], typer.Option(help="gpu: the same shapes, more text, far more steps.")
    ] = "cpu",
    seed: Annotated[int, typer.Option(min=0, help="Seed of data, initial weights and order.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Heads trained side by side, in processes of one thread.")] = 1,
    target_minutes: Annotated[
        float | None, typer.Option(min=0.1, help="End the target's training after this time.")
    ] = None,
) -> None:
    """Build corpus, tokenizer, target, a generic head, six domain heads, held-out prompts and the model card.

    With `--target smollm2` build the generic head and eight domain heads for SmolLM2, from its own answers.
    """
    if target == "smollm2":
        if preset != "cpu" or workers != 1 or target_minutes is not None:
            raise typer.BadParameter("--preset, --workers and --target-minutes are for the zoo's own target")
        build_smollm2(out, seed)
        return
    from hedgespec.zoo.build import build_zoo
    from hedgespec.zoo.settings import preset_settings

    settings = preset_settings(preset, out, seed, workers=workers, target_minutes=target_minutes)
    with share_bar() as progress:
        build_zoo(settings, progress)
    console.print(f"The zoo is in {out}. Use it: HEDGESPEC_ZOO={out} hedgespec serve --model zoo")
    console.print(f"Measure it: HEDGESPEC_ZOO={out} hedgespec bench acceptance --card")


def build_smollm2(out: Path, seed: int) -> None:
    """Fetch SmolLM2 unless it is here, and build its heads."""
    from hedgespec.assembly.published import PUBLISHED, get_published
    from hedgespec.config import AppArgs
    from hedgespec.zoo.smollm2.build import build_heads
    from hedgespec.zoo.smollm2.settings import HeadsSettings

    folder = get_published(PUBLISHED["smollm2"], AppArgs.model_fields["state_dir"].default, console.print)
    with share_bar() as progress:
        build_heads(folder, HeadsSettings(out, seed), progress)
    console.print(f"The heads are in {out}. Use them: HEDGESPEC_SMOLLM2_HEADS={out} hedgespec serve")
