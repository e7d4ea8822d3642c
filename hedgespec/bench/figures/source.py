"""Read a JSON file that a reporting command wrote, with errors that name the file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hedgespec.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Source:
    """A report file. content: the whole file, {"created", "machine", "settings", "report"}."""

    path: Path
    content: Mapping[str, Any]

    @staticmethod
    def read(path: Path) -> Source:
        """Read a file. Raises ConfigError when it does not exist, is not JSON, or is not a report."""
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(f"{path} cannot be read as the JSON of a benchmark: {error}") from error
        source = Source(path, content)
        for keys in (("created",), ("machine", "cpu"), ("report",)):
            source.at(*keys)
        return source

    @property
    def cpu(self) -> str:
        """The processor that the report was measured on."""
        return str(self.at("machine", "cpu"))

    def at(self, *keys: str | int) -> Any:
        """Return the entry under these keys, from the top of the file. Raises ConfigError with the first missing one."""
        value: Any = self.content
        for depth, key in enumerate(keys):
            try:
                value = value[key]
            except (KeyError, IndexError, TypeError) as error:
                where = " > ".join(map(str, keys[:depth])) or "the top"
                raise ConfigError(
                    f"{self.path} has no {key!r} under {where}; write it again with the command's --json."
                ) from error
        return value

    def has(self, *keys: str | int) -> bool:
        """Tell whether there is an entry under these keys."""
        try:
            self.at(*keys)
        except ConfigError:
            return False
        return True

    def numbers(self, *keys: str | int) -> list[float]:
        """Return a list of numbers. Raises ConfigError when the entry is something else."""
        try:
            return [float(value) for value in self.at(*keys)]
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{self.path}: {' > '.join(map(str, keys))} is not a list of numbers: {error}") from error

    def number(self, *keys: str | int) -> float:
        """Return a number. Raises ConfigError when the entry is something else."""
        try:
            return float(self.at(*keys))
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{self.path}: {' > '.join(map(str, keys))} is not a number: {error}") from error

    def rows(self, study: str, columns: Sequence[str]) -> list[dict[str, Any]]:
        """Return some columns of all rows of a study. Raises ConfigError that names a missing one."""
        indices = range(len(self.at("report", study, "rows")))
        return [{column: self.at("report", study, "rows", row, column) for column in columns} for row in indices]
