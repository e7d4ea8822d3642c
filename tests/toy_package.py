"""Install a toy third-party package in a temporary folder, as pip would: a module beside the entry points that name it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from hedgespec import catalogue
from hedgespec.registry import Registry


def write_toy_package(folder: Path, module: str, source: str, entry_points: Mapping[str, Mapping[str, str]]) -> Path:
    """Write the package's files. For a process of its own the folder goes on PYTHONPATH.

    entry_points: group ("hedgespec.drafters") -> name in a configuration -> attribute of the module
    """
    (folder / f"{module}.py").write_text(source)
    info = folder / f"{module}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    sections = [
        "\n".join([f"[{group}]", *(f"{name} = {module}:{attribute}" for name, attribute in names.items())])
        for group, names in entry_points.items()
    ]
    (info / "entry_points.txt").write_text("\n".join(sections) + "\n")
    return folder


@contextmanager
def toy_package(
    folder: Path, module: str, source: str, entry_points: Mapping[str, Mapping[str, str]]
) -> Iterator[None]:
    """Have the package installed in this process. Use a new module name each time: registries keep what they load."""
    sys.path.insert(0, str(write_toy_package(folder, module, source, entry_points)))
    _look_again()
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        sys.modules.pop(module, None)
        _look_again()


def _look_again() -> None:
    """Registries look for installed packages once per process."""
    importlib.invalidate_caches()
    for registry in vars(catalogue).values():
        if isinstance(registry, Registry):
            registry.__dict__.pop("_references", None)
