"""The journal of a run holds one line per conversation, so that a run that was stopped goes on where it stopped."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hedgespec.bench.questions.conversation import Conversation, TurnAnswer
from hedgespec.errors import ConfigError

FORMAT = "hedgespec answers to questions, 1"


class Journal:
    """Conversations in the order in which they were had; appended to a file as they end, when there is one."""

    def __init__(self, path: Path | None = None) -> None:
        self.conversations: list[Conversation] = []
        self._path = path
        self._keys: set[tuple[str, float, str]] = set()

    @staticmethod
    def open(path: Path | None, settings: Mapping[str, Any]) -> Journal:
        """Read or begin a journal. settings: what must be equal for its conversations to be comparable.

        Raises ConfigError for a file that is no journal or belongs to a run with other settings.
        """
        journal = Journal(path)
        if path is None:
            return journal
        # through JSON, so that they compare equal to what is read
        header = json.loads(json.dumps({"format": FORMAT, "settings": settings}))
        try:
            text = path.read_text(encoding="utf-8") if path.exists() else ""
            if "\n" not in text:  # new, or stopped in its first line
                if not _line(header).startswith(text):
                    raise ConfigError(f"{path} is no journal of `bench policies --resume`; name another file")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(_line(header), encoding="utf-8")
                return journal
            whole = text[: text.rindex("\n") + 1]
            journal._read(path, whole.splitlines(), header)
            if whole != text:  # the line that the last run was stopped in
                path.write_text(whole, encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot use {path} as a journal: {error}") from error
        return journal

    def __contains__(self, key: object) -> bool:
        """Whether the conversation with this key has been had."""
        return key in self._keys

    def add(self, conversation: Conversation) -> None:
        """Add a conversation and write it down."""
        self._keep(conversation)
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(_line(asdict(conversation)))

    def _keep(self, conversation: Conversation) -> None:
        self.conversations.append(conversation)
        self._keys.add(conversation.key)

    def _read(self, path: Path, lines: list[str], expected: Mapping[str, Any]) -> None:
        for number, line in enumerate(lines, start=1):
            try:
                content = json.loads(line)
                if number == 1:
                    _check_header(path, content, expected)
                else:
                    answers = tuple(TurnAnswer(**answer) for answer in content.pop("answers"))
                    self._keep(Conversation(**content, answers=answers))
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                raise ConfigError(f"{path}, line {number}: no journal of `bench policies --resume`: {error}") from error


def _check_header(path: Path, found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    if found["format"] != expected["format"]:
        raise ConfigError(f"{path} has format {found['format']!r}, this version writes {expected['format']!r}")
    for name, wanted in expected["settings"].items():
        before = found["settings"].get(name)
        if before != wanted:
            raise ConfigError(
                f"{path} was begun with {name} {before!r}, not {wanted!r}: name another file to begin anew"
            )


def _line(content: Mapping[str, Any]) -> str:
    return json.dumps(content, separators=(",", ":")) + "\n"
