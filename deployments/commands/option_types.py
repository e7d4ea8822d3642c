"""Options that several commands share, with their help texts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hedgespec.bench.questions.conversation import TenantPer
from hedgespec.config import Device


def question_file(value: Path | None) -> Path | None:
    """Refuse a number, which `--prompts` took before there were question files."""
    if value is not None and value.name == str(value) and value.name.isdecimal() and not value.exists():
        raise typer.BadParameter(f"takes a file with questions; the number of prompts is --num-prompts {value}")
    return value


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
QuestionFile = Annotated[
    Path | None,
    typer.Option(
        "--prompts",
        callback=question_file,
        help="Questions instead of the zoo's prompts: JSON lines with `turns` and `category`.",
    ),
]
NumPrompts = Annotated[int, typer.Option(min=1, help="Held-out prompts per domain.")]
PromptsOrQuestions = Annotated[
    int | None,
    typer.Option("--num-prompts", min=1, help="Held-out prompts per domain, or questions per category (default: all)."),
]
TenantOption = Annotated[
    TenantPer,
    typer.Option(
        "--tenant", help="Who shares what was learned: the turns of one question, a category, or the whole run."
    ),
]
MaxTokens = Annotated[int, typer.Option(min=2, help="Tokens of each answer.")]
Domains = Annotated[list[str] | None, typer.Option("--domain", help="Only this domain; may be repeated.")]
ApiKey = Annotated[str | None, typer.Option(envvar="HEDGESPEC_API_KEY", help="API key for the server.")]

TableFile = Annotated[Path, typer.Option("--table", help="The recording that `hedgespec simulate record` wrote.")]
RunsEach = Annotated[int, typer.Option(min=1, help="Replays per answer; more give narrower intervals.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of all random choices.")]

Shape = Annotated[str, typer.Option(help="Shape of the target: tiny, llama-3.2-1b, llama-3.1-8b or qwen3-8b.")]
OnDevice = Annotated[Device, typer.Option(help="Where the models run.")]
Threads = Annotated[int, typer.Option(min=1, help="torch threads on the CPU.")]
Graphs = Annotated[
    bool, typer.Option(help="Run passes as CUDA graphs, as a replica does; on the CPU as static passes.")
]
