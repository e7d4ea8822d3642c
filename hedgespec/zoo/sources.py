"""Text that a machine with Python already has: library sources, C headers, documentation topics and docstrings.

Every function yields (name, text) in a deterministic order for a given machine. Names are relative to their root, so that
the held-out split does not depend on where Python is installed.
"""

from __future__ import annotations

import ast
import inspect
import sysconfig
from collections.abc import Iterator
from pathlib import Path

_MAX_BYTES = 200_000
_SKIPPED_FOLDERS = {"site-packages", "dist-packages", "lib2to3", "idlelib", "pydoc_data", "__pycache__", "encodings"}
_CPP_MARKERS = ("namespace ", "template <", "template<", "public:", "class ")


def python_sources() -> Iterator[tuple[str, str]]:
    """Sources of the running interpreter's standard library, its test package included."""
    root = Path(sysconfig.get_path("stdlib"))
    for path in sorted(root.rglob("*.py")):
        parts = set(path.relative_to(root).parts)
        if not parts & _SKIPPED_FOLDERS:
            yield from _read(path, root)


def c_headers() -> Iterator[tuple[str, str]]:
    """C (not C++) headers: Python's own, NumPy's where it is installed, and the system's."""
    roots = [Path(sysconfig.get_path("include"))]
    roots += sorted(Path(sysconfig.get_path("purelib")).glob("numpy/*/include"))
    roots.append(Path("/usr/include"))
    for root in roots:
        for path in sorted(root.rglob("*.h")):
            if "c++" in path.parts or path.is_symlink():
                continue
            for name, text in _read(path, root):
                if not any(marker in text for marker in _CPP_MARKERS):
                    yield f"{root.name}/{name}", text


def documentation_topics() -> Iterator[tuple[str, str]]:
    """The language reference's topics that come with `pydoc`."""
    from pydoc_data.topics import topics

    for name in sorted(topics):
        yield f"topic {name}", topics[name].strip() + "\n"


def docstrings() -> Iterator[tuple[str, str]]:
    """One document per module: its docstrings of some length, each under the name that it documents."""
    stdlib, site = Path(sysconfig.get_path("stdlib")), Path(sysconfig.get_path("purelib"))
    for root, skipped in ((stdlib, _SKIPPED_FOLDERS | {"test"}), (site, {"__pycache__", "tests", "test", "_vendor"})):
        for path in sorted(root.rglob("*.py")):
            if set(path.relative_to(root).parts) & skipped:
                continue
            for name, text in _read(path, root):
                module = name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
                sections = list(_sections(module, text))
                if sections:
                    yield f"docstrings {module}", "\n\n".join(sections) + "\n"


def _sections(module: str, source: str) -> Iterator[str]:
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return
    for node in ast.walk(tree):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        text = ast.get_docstring(node, clean=False)
        if text and _is_prose(text):
            name = "" if isinstance(node, ast.Module) else f".{node.name}"
            yield f"# {module}{name}\n\n{inspect.cleandoc(text)}"


def _is_prose(text: str) -> bool:
    letters = sum(c.isalpha() or c == " " for c in text)
    return 150 <= len(text) <= 6000 and letters > 0.8 * len(text) and ">>>" not in text


def _read(path: Path, root: Path) -> Iterator[tuple[str, str]]:
    """Yield one readable UTF-8 file of 200 to 200,000 bytes; others are left out."""
    try:
        if not 200 <= path.stat().st_size <= _MAX_BYTES:
            return
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return
    if text.isascii():
        yield path.relative_to(root).as_posix(), text
