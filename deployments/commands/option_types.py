"""Options that several commands share, with their help texts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hedgespec.config import Device

JsonFile = Annotated[Path | None, typer.Option("--json", help="Also write the report to this file, as JSON.")]
ConfigFile = Annotated[Path | None, typer.Option(help="Configuration file (default: the embedded zoo).")]
ConfigInsteadOfModel = Annotated[Path | None, typer.Option("--config", help="Configuration file, instead of --model.")]
ModelName = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="`smollm2` or `zoo`, each with its drafters; a folder or a GGUF file, with the n-gram drafter alone.",
    ),
]
Temperature = Annotated[float, typer.Option(min=0.0, max=2.0, help="Sampling temperature; 0 is greedy.")]
Temperatures = Annotated[
    list[float] | None,
    typer.Option("--temperature", min=0.0, max=2.0, help="Sampling temperature; may be repeated. (default: 0 and 1)"),
]
NumPrompts = Annotated[int, typer.Option(min=1, help="Held-out prompts per domain.")]
MaxTokens = Annotated[int, typer.Option(min=2, help="Tokens of each answer.")]
Domains = Annotated[list[str] | None, typer.Option("--domain", help="Only this domain; may be repeated.")]
ApiKey = Annotated[str | None, typer.Option(envvar="HEDGESPEC_API_KEY", help="API key for the server.")]

Shape = Annotated[str, typer.Option(help="Shape of the target: tiny, llama-3.2-1b, llama-3.1-8b or qwen3-8b.")]
OnDevice = Annotated[Device, typer.Option(help="Where the models run.")]
Threads = Annotated[int, typer.Option(min=1, help="torch threads on the CPU.")]
Graphs = Annotated[
    bool, typer.Option(help="Run passes as CUDA graphs, as a replica does; on the CPU as static passes.")
]
