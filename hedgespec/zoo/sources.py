"""Find text that a machine with Python already has: library sources, C headers, documentation topics and docstrings.

Names are relative to their root, so that neither order nor held-out split depends on where Python is installed.
"""

from __future__ import annotations

import ast
import inspect
import sysconfig
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

_MIN_BYTES, _MAX_BYTES = 200, 200_000
_SKIPPED = {"site-packages", "dist-packages", "lib2to3", "idlelib", "pydoc_data", "__pycache__", "encodings"}
_CPP_MARKERS = ("namespace ", "template <", "template<", "public:", "class ")


@dataclass(frozen=True, slots=True)
class Source:
    """A named text that is read on demand; `read` returns "" when the text is not usable."""

    name: str
    read: Callable[[], str]


def python_sources() -> Iterator[Source]:
    """Yield the source files of the running interpreter's standard library, its test package included."""
    root = Path(sysconfig.get_path("stdlib"))
    for path in sorted(root.rglob("*.py")):
        if not set(path.relative_to(root).parts) & _SKIPPED:
            yield Source(path.relative_to(root).as_posix(), partial(_read, path))


def c_headers() -> Iterator[Source]:
    """Yield C (not C++) headers: Python's own, NumPy's where it is installed, and the system's."""
    roots = [Path(sysconfig.get_path("include"))]
    roots += sorted(Path(sysconfig.get_path("purelib")).glob("numpy/*/include"))
    roots.append(Path("/usr/include"))
    for root in roots:
        for path in sorted(root.rglob("*.h")):
            if "c++" not in path.parts and not path.is_symlink():
                yield Source(f"{root.name}/{path.relative_to(root).as_posix()}", partial(_read_c, path))


def documentation_topics() -> Iterator[Source]:
    """Yield the topics of the language reference that come with `pydoc`."""
    from pydoc_data.topics import topics

    for name in sorted(topics):
        yield Source(f"topic {name}", partial(str.strip, topics[name]))


def docstrings() -> Iterator[Source]:
    """Yield one text per Python module: its longer docstrings, each under the name that it documents."""
    stdlib, site = Path(sysconfig.get_path("stdlib")), Path(sysconfig.get_path("purelib"))
    for root, skipped in ((stdlib, _SKIPPED | {"test"}), (site, {"__pycache__", "tests", "test", "_vendor"})):
        for path in sorted(root.rglob("*.py")):
            if not set(path.relative_to(root).parts) & skipped:
                name = path.relative_to(root).as_posix()
                module = name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
                yield Source(f"docstrings {module}", partial(_read_docstrings, module, path))


def _read(path: Path) -> str:
    """Return a readable ASCII file of 200 to 200,000 bytes, or "" for others."""
    try:
        if not _MIN_BYTES <= path.stat().st_size <= _MAX_BYTES:
            return ""
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
    return text if text.isascii() else ""


def _read_c(path: Path) -> str:
    text = _read(path)
    return "" if any(marker in text for marker in _CPP_MARKERS) else text


def _read_docstrings(module: str, path: Path) -> str:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            tree = ast.parse(_read(path))
    except (SyntaxError, ValueError, RecursionError):
        return ""
    sections: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node, clean=False)
            if text and _is_prose(text):
                name = "" if isinstance(node, ast.Module) else f".{node.name}"
                sections.append(f"# {module}{name}\n\n{inspect.cleandoc(text)}")
    return "\n\n".join(sections)


def _is_prose(text: str) -> bool:
    letters = sum(c.isalpha() or c == " " for c in text)
    return 150 <= len(text) <= 6000 and letters > 0.8 * len(text) and ">>>" not in text
