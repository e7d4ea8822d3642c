"""Write docs/modules.md: one line per module, the first sentence of its docstring (`make modules`)."""

from __future__ import annotations

import ast
import re
from itertools import groupby
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "modules.md"
GENERATED = ROOT / "hedgespec" / "rpc" / "v1"

INTRODUCTION = """\
# Modules

Written by `make modules` from the first sentence of every module's docstring: edit it there. What the folders are for and
who may import whom stands in [design.md](design.md), section 2.
"""


def modules() -> list[Path]:
    """Every source file with something in it, generated code left out, folder by folder."""
    files = [*(ROOT / "hedgespec").rglob("*.py"), *(ROOT / "deployments").rglob("*.py")]
    present = (path for path in files if path.stat().st_size and path.parent != GENERATED)
    return sorted(present, key=lambda path: (path.parent.parts, path.name))


def page() -> str:
    parts = [INTRODUCTION]
    for folder, paths in groupby(modules(), key=lambda path: path.parent):
        lines = [f"- `{path.name}`: {first_sentence(path)}\n" for path in paths]
        parts.append(f"## {folder.relative_to(ROOT)}\n\n{''.join(lines)}")
    return "\n".join(parts)


def listed(text: str) -> set[str]:
    """The files that a page names, by their paths from the repository's root."""
    names: set[str] = set()
    for section in text.split("\n## ")[1:]:
        folder, _, lines = section.partition("\n")
        names |= {f"{folder}/{name}" for name in re.findall(r"^- `([\w.]+)`:", lines, flags=re.MULTILINE)}
    return names


def first_sentence(path: Path) -> str:
    docstring = ast.get_docstring(ast.parse(path.read_text())) or "(no docstring)"
    paragraph = " ".join(docstring.split("\n\n")[0].split())
    return re.split(r"(?<=[.!?])\s+(?=[A-Z`])", paragraph, maxsplit=1)[0]


if __name__ == "__main__":
    PAGE.write_text(page())
