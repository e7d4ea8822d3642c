"""`--model` and `--config`: which configuration a command runs. A published model is fetched when it is needed."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from deployments.commands.inputs import read_args
from hedgespec.assembly.model_args import model_args
from hedgespec.assembly.model_sources import SMOLLM2, ZOO
from hedgespec.assembly.published import PUBLISHED, PublishedModel, get_published
from hedgespec.config import AppArgs, Device
from hedgespec.errors import ConfigError, ModelFolderError

console = Console(stderr=True)


def chosen_args(config: Path | None, model: str | None, device: Device = "cpu", default: str = SMOLLM2) -> AppArgs:
    """Return the configuration of --config or of --model; without both that of the default model.

    A default that cannot be fetched is replaced by the zoo, with a line that says why.
    Raises ConfigError, and ModelFolderError when the model of --model cannot be fetched.
    """
    if config is not None and model is not None:
        raise ConfigError("give --config or --model, not both: a configuration names its model")
    if config is not None:
        return read_args(config)
    chosen = model or default
    args = model_args(chosen, device)
    if chosen in PUBLISHED:
        try:
            fetch(PUBLISHED[chosen], args.state_dir)
        except ModelFolderError as error:
            if model is not None:
                raise
            tell(f"The zoo is used instead of {chosen}: {' '.join(str(error).split())}")
            return model_args(ZOO, device)
    return args


def fetch(model: PublishedModel, state_dir: Path) -> Path:
    """Fetch a published model unless it is here, and show how far it is. Raises ModelFolderError."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    with ended_by_sigterm(), bar:
        task = bar.add_task(model.name, total=model.num_bytes, visible=False)

        def show(num_bytes: int) -> None:
            bar.update(task, completed=min(num_bytes, model.num_bytes), visible=True)

        return get_published(model, state_dir, tell, show)


def tell(line: str) -> None:
    """Print a line for the user, as one line however long it is."""
    console.print(line, highlight=False, markup=False, soft_wrap=True)


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end the command with its clean-up, as Ctrl-C does."""
    previous = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
