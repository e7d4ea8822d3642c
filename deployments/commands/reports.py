"""The output of reporting commands: JSON files, tables by domain, progress bars."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from hedgespec.bench.answers import ArmResult

console = Console()


def write_json(path: Path | None, report: Any, **settings: Any) -> None:
    """Write a report with its settings and the machine's description; do nothing without a path."""
    if path is None:
        return
    content = {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "settings": settings,
        "report": report,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1, default=plain) + "\n", encoding="utf-8")
    console.print(f"Wrote {path}")


def plain(value: Any) -> Any:
    """Convert a value for JSON: a report by its own `as_json`, other dataclasses by field, everything else to text."""
    if hasattr(value, "as_json"):
        return value.as_json()
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else str(value)


def machine() -> dict[str, str]:
    """Describe the machine and the versions of the main packages."""
    facts = {"python": platform.python_version(), "system": platform.platform(), "cpu": cpu_name()}
    for package in ("torch", "transformers", "ray", "grpcio"):
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            facts[package] = "not installed"
    return facts


def cpu_name() -> str:
    """Return the number and the model of the processors."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{len(names)} x {names[0]}" if names else platform.processor()


def show_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], caption: str | None = None) -> None:
    """Print a table; all columns but the first are aligned to the right."""
    table = Table(title=title, caption=caption)
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def show_by_domain(rows: Mapping[str, Mapping[str, ArmResult]], described: str, total: str | None = None) -> None:
    """Print mean accepted tokens and tokens/s of every arm by domain. total: the domain that is shown with intervals."""
    for title, pick in (("mean accepted tokens", "mean_accepted_tokens"), ("tokens/s", "tokens_per_s")):
        table = []
        for arm in next(iter(rows.values())):
            cells = {domain: getattr(row[arm], pick) for domain, row in rows.items()}
            table.append([arm, *(str(c) if d == total else f"{c.value:.2f}" for d, c in cells.items())])
        show_table(f"{title}, {described}", ["policy" if total else "", *rows], table)


@contextmanager
def progress_bar(title: str, total: int) -> Iterator[Any]:
    """Yield a function that advances the bar by one."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console) as progress:
        task = progress.add_task(title, total=total)
        yield lambda: progress.advance(task)


@contextmanager
def share_bar() -> Iterator[Callable[[str, float, str], None]]:
    """Yield a function of (stage, share done, figures); every stage gets a bar of its own."""
    columns = (
        TextColumn("{task.description:<24}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[figures]}"),
    )
    with Progress(*columns, console=console) as progress:
        stages: dict[str, TaskID] = {}

        def show(stage: str, share: float, figures: str) -> None:
            if stage not in stages:
                stages[stage] = progress.add_task(stage, total=1.0, figures="")
            progress.update(stages[stage], completed=share, figures=figures)

        yield show
