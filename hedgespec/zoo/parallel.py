"""Run one stage of a build for several names, in this process or in several processes of one thread each."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import suppress
from functools import partial
from queue import Empty, Queue

from hedgespec.training import Progress, StageProgress
from hedgespec.zoo.settings import ZooSettings

Task = Callable[[ZooSettings, str, StageProgress], None]
"""The work of a stage for one name: a module-level function, so that another process can import it."""


def run_parallel(task: Task, settings: ZooSettings, names: Sequence[str], stage: str, progress: Progress) -> None:
    """Run `task` for every name; progress is reported as `<stage> <name>`. The first failure is raised."""
    if settings.workers == 1:
        for name in names:
            task(settings, name, partial(progress, f"{stage} {name}"))
        return
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, ProcessPoolExecutor(settings.workers, mp_context=context) as pool:
        updates = manager.Queue()
        pending = {pool.submit(_run_alone, task, settings, name, f"{stage} {name}", updates) for name in names}
        while pending:
            with suppress(Empty):
                progress(*updates.get(timeout=1.0))
            pending -= _finished(pending)
        while not updates.empty():
            progress(*updates.get())


def _finished(futures: set[Future[None]]) -> set[Future[None]]:
    done = {future for future in futures if future.done()}
    for future in done:
        future.result()
    return done


def _run_alone(
    task: Task, settings: ZooSettings, name: str, label: str, updates: Queue[tuple[str, float, str]]
) -> None:
    import torch

    from hedgespec.training.allocator import keep_freed_memory

    torch.set_num_threads(1)
    keep_freed_memory()
    task(settings, name, lambda share, figures: updates.put((label, share, figures)))
