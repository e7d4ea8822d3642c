"""Every citation can be followed: design sections, ADRs, papers, paths and commands that a file names exist.

Checked are the sources and the documents. A path may be given from the repository's root or by its last parts, as
`router/decode_loop.py` or `panel.py`.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer

from deployments.cli import app

ROOT = Path(__file__).parents[2]
FOLDERS = ("hedgespec", "deployments", "protos", "k8s", "tests", "docs")
SUFFIXES = (".py", ".proto", ".md", ".yaml", ".toml", "Makefile")
NOT_OURS = ("hedgespec/rpc/v1/", "hedgespec/zoo/weights/", "docs/modules.md", "tests/unit/test_citations.py")
"""Generated pages, the zoo's texts, and this file, which spells out wrong citations."""

UNPUBLISHED = ("DESIGN", "paper.md", "ray.md", "reliability.md", "peers.md", "shared/design", "shared/reference")
"""Pages that the project was planned with. They are not in the repository, so nothing may refer to them."""

LABELS = re.compile(r"hedgespec/(role|edge|monitoring)")
"""Kubernetes labels, which look like paths."""


@cache
def files() -> frozenset[str]:
    """All files of the repository, by their paths from its root."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return frozenset(name for name in listed if (ROOT / name).is_file())


def citing_files() -> list[Path]:
    return [
        ROOT / name
        for name in sorted(files())
        if name.endswith(SUFFIXES) and not name.startswith(NOT_OURS) and (name.startswith(FOLDERS) or "/" not in name)
    ]


def problems(text: str, path: Path) -> list[str]:
    """Return what `text`, as the content of the file `path`, cites that is not there."""
    return [
        *(
            f"cites {name}, which is not published"
            for name in UNPUBLISHED
            if re.search(rf"\b{re.escape(name)}\b", text)
        ),
        *(f"design {n} is no section of docs/design.md" for n in numbers("[Dd]esign", text) if n not in sections()),
        *(
            f"there is no ADR {n}"
            for n in numbers("ADRs?", text)
            if not any((ROOT / "docs/adr").glob(f"{int(n):04}-*"))
        ),
        *(f"there is no {name}" for name in cited_paths(text) if not exists(name)),
        *(f"there is no {link}" for link in cited_links(text, path) if not link.exists() or ROOT not in link.parents),
        *(f"there is no command hedgespec {words}" for words in cited_commands(text, path) if not is_command(words)),
        *(f"{' '.join(paper)} is not in design 12" for paper in cited_papers(text, path) if not is_referenced(*paper)),
        *(f"there is no make {name}" for name in re.findall(r"`make ([a-z]+)`", text) if name not in make_targets()),
    ]


def numbers(word: str, text: str) -> set[str]:
    """ "ADRs 4, 8 and 10" -> {"4", "8", "10"}."""
    found = re.findall(rf"\b(?:{word}) (\d+(?:\.\d+)?(?:(?:, | and | to )\d+(?:\.\d+)?\b)*)", text)
    return {number for numbers in found for number in re.findall(r"\d+(?:\.\d+)?", numbers)}


def cited_paths(text: str) -> Iterator[str]:
    """Paths in backticks that begin at the root or end like a file of ours, and paths of documents anywhere."""
    for name in re.findall(r"`(?:\./)?([\w.-]+(?:/[\w.-]+)*)/?`", text):
        is_file = re.search(r"\w\.(py|proto|md)$", name) is not None
        if is_file or ("/" in name and name.split("/")[0] in FOLDERS and not LABELS.fullmatch(name)):
            yield name
    yield from re.findall(r"(?<![\w/`])(?:docs|tests)/[\w/-]+\.(?:py|md|json|png)\b", text)


def exists(name: str) -> bool:
    return (ROOT / name).exists() or any(file.endswith(f"/{name}") or f"/{name}/" in file for file in files())


def cited_links(text: str, path: Path) -> list[Path]:
    if path.suffix != ".md":
        return []
    return [(path.parent / link).resolve() for link in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", text)]


def cited_commands(text: str, path: Path) -> set[str]:
    """The words behind `hedgespec`, in backticks and in the shell blocks of documents."""
    words = r"(?:\.venv/bin/)?hedgespec ([a-z][a-z-]*(?: [a-z][a-z-]*\b)*)"
    blocks = re.findall(r"^```sh\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL) if path.suffix == ".md" else []
    found = re.findall(rf"`{words}", text)
    return {*found, *(command for block in blocks for command in re.findall(rf"^{words}", block, flags=re.MULTILINE))}


def cited_papers(text: str, path: Path) -> set[tuple[str, str]]:
    """An author and the year, of "de Rooij et al. 2014" and "Koolen, van Erven 2015" in sources."""
    if path.suffix != ".py":
        return set()
    name = r"[A-Z][\w-]+"
    found = re.findall(rf"\b({name})(?: et al\.|, (?:[a-z]+ )?{name}) ((?:19|20)\d\d[ab]?)\b", text)
    return {(author, year) for author, year in found}


def is_referenced(author: str, year: str) -> bool:
    references = (ROOT / "docs/design.md").read_text().split("## 12. References")[1]
    return any(author in line and f" {year}." in line for line in references.splitlines())


def is_command(words: str) -> bool:
    """Return whether the words begin with a command; what follows it are arguments."""
    command: Any = typer.main.get_command(app)
    for word in words.split():
        if not isinstance(getattr(command, "commands", None), dict):
            return True
        if word not in command.commands:
            return False
        command = command.commands[word]
    return True


@cache
def sections() -> frozenset[str]:
    return frozenset(re.findall(r"^#+ (\d+(?:\.\d+)?)\.? ", (ROOT / "docs/design.md").read_text(), flags=re.MULTILINE))


@cache
def make_targets() -> frozenset[str]:
    return frozenset(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))


def test_citations_can_be_followed() -> None:
    """If this fails: name the section, ADR, file or command as it is called now, or give the reason in words."""
    paths = citing_files()
    assert len(paths) > 300
    found = {str(path.relative_to(ROOT)): problems(path.read_text(), path) for path in paths}
    assert not {name: wrong for name, wrong in found.items() if wrong}


@pytest.mark.parametrize(
    "text",
    [
        "see design 99",
        "(design 5.99)",
        "see design 3 and 99",
        "ADR 9999",
        "ADRs 1 and 9999",
        "DESIGN 5",
        "(paper.md 3.4)",
        "see `hedgespec/no_such_file.py`",
        "see `router/no_such_file.py`",
        "see `no_such_file.py`",
        "docs/no_such_page.md has it",
        "[this](no_such_page.md)",
        "[this](../../elsewhere.md)",
        "run `hedgespec no-such-command`",
        "run `hedgespec bench no-such-command`",
        "```sh\nhedgespec no-such-command --help\n```",
        "run `make nothing`",
    ],
)
def test_a_wrong_citation_is_found(text: str) -> None:
    assert problems(text, ROOT / "docs" / "page.md")


@pytest.mark.parametrize("text", ["(Nobody et al. 2023)", "(Leviathan et al. 1923)", "(Luo, Nobody 2014, section 2)"])
def test_a_paper_without_a_reference_is_found(text: str) -> None:
    assert problems(text, ROOT / "hedgespec" / "types.py")


def test_right_citations_pass() -> None:
    text = (
        "Design 5.2, design 3, invariant 4, ADRs 4, 8 and 10; `hedgespec/types.py`, `router/decode_loop.py`, `panel.py`, "
        "`hedgespec/learning`, [design](design.md#5-feedback); `hedgespec bench decode --json F`, `make serve`.\n"
        "```sh\nhedgespec keys new acme  # makes a key\n```\n"
    )
    assert not problems(text, ROOT / "docs" / "page.md")
