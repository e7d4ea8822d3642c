"""The name of a tabular model in a configuration, `tabular:SEED...`, parsed without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hedgespec.errors import ConfigError

if TYPE_CHECKING:
    from hedgespec.models.tabular import TabularModel

TABULAR = "tabular:"
TABULAR_ALPHABET = "abcdefghijklmnopqrstuvwxyz .,:;!"
TABULAR_CONTEXT = 8192


@dataclass(frozen=True, slots=True)
class TabularSource:
    """`tabular:SEED[,closeness=C][,delay_s=S]`: an exact random model over a small alphabet.

    closeness: of a drafter to its target, 0..1. delay_s: artificial duration of a call in seconds
    """

    seed: int
    closeness: float = 0.7
    delay_s: float = 0.0

    @staticmethod
    def parse(text: str) -> TabularSource:
        """Read the name. Raises ConfigError."""
        seed, *settings = text.removeprefix(TABULAR).split(",")
        try:
            values = {name: float(value) for name, value in (setting.split("=") for setting in settings)}
            source = TabularSource(int(seed), **values)
        except (ValueError, TypeError) as error:
            raise ConfigError(f"{text!r} is not {TABULAR}SEED[,closeness=0..1][,delay_s=SECONDS]") from error
        if not 0.0 <= source.closeness <= 1.0 or not 0.0 <= source.delay_s <= 60.0:
            raise ConfigError(f"{text!r}: closeness must be in 0..1 and delay_s in 0..60")
        return source

    def target_model(self) -> TabularModel:
        """Return the target's table."""
        from hedgespec.models.tabular import TabularModel

        return TabularModel(vocab_size=len(TABULAR_ALPHABET), order=2, seed=self.seed)
