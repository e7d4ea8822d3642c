"""The documents say what is true: their configurations load, their files exist, their commands are there."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from deployments.cli import app
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
    lines = [line.split("#")[0].split() for block in blocks("sh") for line in block.splitlines()]
    lines = [words[1:] for words in lines if words[:1] == ["hedgespec"]]
    assert len(lines) >= 5
    for words in lines:
        command: Any = typer.main.get_command(app)
        while isinstance(getattr(command, "commands", None), dict):
            assert words[0] in command.commands, f"no command hedgespec {' '.join(words)}"
            command, words = command.commands[words[0]], words[1:]
        options = {option for parameter in command.params for option in parameter.opts} | {"--help"}
        assert {word for word in words if word.startswith("--")} <= options


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
