"""The documents say what is true: their configurations load, their files exist, their commands are there."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from hedgespec.config import AppArgs
from hedgespec.tenancy.keys_file import read_keys_file

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
DOCUMENTS = ("README.md", "CONTRIBUTING.md", "docs/ARCHITECTURE.md", "docs/glossary.md", "k8s/README.md")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


def test_readme_configurations_are_accepted() -> None:
    """Every YAML block with a target is a configuration for `hedgespec serve --config`."""
    configurations = [content for content in map(yaml.safe_load, blocks("yaml")) if "target" in content]
    assert configurations
    for content in configurations:
        assert AppArgs.model_validate(content).drafters


def test_readme_keys_files_are_accepted(tmp_path: Path) -> None:
    keys_files = [block for block in blocks("yaml") if block.startswith("tenants:")]
    assert keys_files
    for number, block in enumerate(keys_files):
        path = tmp_path / f"keys{number}.yaml"
        path.touch(mode=0o600)
        path.write_text(block)
        assert set(read_keys_file(path).values()) == {"acme"}


def test_readme_python_compiles() -> None:
    for block in blocks("python"):
        compile(block, "README.md", "exec")


def test_readme_commands_exist() -> None:
    """Each `hedgespec ...` line of the README is a command with the options that the line uses."""
    lines = [
        line.split("#")[0].split()
        for block in blocks("sh")
        for line in block.splitlines()
        if line.startswith("hedgespec ")
    ]
    assert len(lines) >= 5
    commands = {tuple(command_words(line)): {word for word in line if word.startswith("--")} for line in lines}
    for command, options in commands.items():
        # Wide and plain: rich wraps and colours its help otherwise.
        environment = os.environ | {"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}
        done = subprocess.run(
            [sys.executable, "-c", "from deployments.cli import main; main()", *command, "--help"],
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
            env=environment,
        )
        assert done.returncode == 0, f"hedgespec {' '.join(command)}: {done.stderr}"
        missing = {option for option in options if option not in done.stdout}
        assert not missing, f"hedgespec {' '.join(command)} has no {missing}"


def command_words(words: list[str]) -> list[str]:
    """`hedgespec bench decode --json FILE` -> bench decode; `hedgespec generate "TEXT"` -> generate."""
    taken = []
    for word in words[1:]:
        if not re.fullmatch(r"[a-z][a-z-]*", word):
            break
        taken.append(word)
    return taken


@pytest.mark.parametrize("document", DOCUMENTS)
def test_documents_name_only_files_that_exist(document: str) -> None:
    """Links, and paths in backticks that start at the repository's root."""
    path = ROOT / document
    text = path.read_text()
    links = {path.parent / link for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", text)}
    roots = "hedgespec|deployments|docs|k8s|tests|protos"
    links |= {ROOT / name for name in re.findall(rf"`((?:{roots})/[\w./-]+)`", text)}
    assert not {str(link) for link in links if not link.exists()}


def test_architecture_names_every_module() -> None:
    """One sentence per module: a new file needs one, a removed file loses it."""
    text = (ROOT / "docs" / "ARCHITECTURE.md").read_text().split("## Modules")[1]
    named = set(re.findall(r"^- `([\w./]+\.py)`:", text, flags=re.MULTILINE))
    present = {str(path.relative_to(ROOT)): path for path in modules()}
    missing = [f"- `{name}`: {first_sentence(path)}" for name, path in sorted(present.items()) if name not in named]
    assert not missing, "lines to add to docs/ARCHITECTURE.md:\n" + "\n".join(missing)
    assert not named - present.keys(), "docs/ARCHITECTURE.md names modules that are gone"


def modules() -> list[Path]:
    """Every source file with something in it, generated code left out."""
    files = [*(ROOT / "hedgespec").rglob("*.py"), *(ROOT / "deployments").rglob("*.py")]
    return [path for path in files if path.stat().st_size and path.parent != ROOT / "hedgespec" / "rpc" / "v1"]


def first_sentence(path: Path) -> str:
    docstring = ast.get_docstring(ast.parse(path.read_text())) or "(no docstring)"
    return re.split(r"(?<=[.)])\s", " ".join(docstring.split()), maxsplit=1)[0]
