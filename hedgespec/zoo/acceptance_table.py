"""The acceptance table of a card: `bench acceptance --card` measures it, and a later build of the weights keeps it."""

from __future__ import annotations

from pathlib import Path

from hedgespec.errors import ConfigError

MARKER = "<!-- acceptance-table -->"
"""Stands before and behind the table."""


def kept_table(card: Path) -> str:
    """Return the table that a card has, or what stands for it in a new one.

    Raises ConfigError for a card without markers.
    """
    return _parts(card)[1].strip() if card.is_file() else "Not measured yet."


def write_acceptance_table(markdown: str, folder: Path) -> None:
    """Replace the table of the card in a folder. Raises ConfigError when there is no card, or no markers in it."""
    card = folder / "README.md"
    if not card.is_file():
        raise ConfigError(f"No model card at {card}: build the weights first.")
    before, _, after = _parts(card)
    card.write_text(f"{before}{MARKER}\n{markdown.strip()}\n{MARKER}{after}", encoding="utf-8")


def _parts(card: Path) -> tuple[str, str, str]:
    parts = card.read_text(encoding="utf-8").split(MARKER)
    if len(parts) != 3:
        raise ConfigError(f"{card}: a model card must have the marker {MARKER} exactly twice.")
    return parts[0], parts[1], parts[2]
