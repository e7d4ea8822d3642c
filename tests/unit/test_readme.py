"""The README says what is true: its configurations load and its commands exist. Paths: `test_citations.py`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import typer
import yaml

from deployments.cli import app
from hedgespec.config import AppArgs
from hedgespec.tenancy.keys import read_keys_file
from tests import module_list

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


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


def test_module_list_names_every_module() -> None:
    """Sentences may differ from the docstrings until the list is written again; names may not."""
    named = module_list.listed(module_list.PAGE.read_text())
    present = {str(path.relative_to(ROOT)) for path in module_list.modules()}
    assert named == present, "run `make modules`"


def test_the_walk_names_functions_that_exist() -> None:
    """Functions that docs/ARCHITECTURE.md names behind a file are defined in it."""
    text = (ROOT / "docs" / "ARCHITECTURE.md").read_text()
    steps = re.findall(r"`([\w/]+\.py)`: ((?:`[\w.]+`(?:, )?)+)", text)
    assert len(steps) >= 10
    for name, functions in steps:
        source = (ROOT / "hedgespec" / name).read_text()
        for function in re.findall(r"[\w.]+", functions):
            for part in function.split("."):
                assert re.search(rf"^ *(?:async )?(?:def|class) {part}\b", source, flags=re.MULTILINE), (name, function)
