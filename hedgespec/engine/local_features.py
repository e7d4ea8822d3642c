"""Inside one process the target hands its hidden features to drafters by reference; an address is `local:<drafter id>`."""

from __future__ import annotations

from hedgespec.errors import UnknownDrafter
from hedgespec.protocols import FeatureSink

LOCAL = "local:"


class LocalFeatureTransport:
    """The `FeatureTransport` of one process; drafters register before sessions are opened."""

    def __init__(self) -> None:
        self._sinks: dict[str, FeatureSink] = {}

    def register(self, drafter_id: str, sink: FeatureSink) -> None:
        """Let a target push features to this drafter."""
        self._sinks[LOCAL + drafter_id] = sink

    def sink(self, address: str) -> FeatureSink:
        """Return the drafter registered under an address. Raises UnknownDrafter."""
        try:
            return self._sinks[address]
        except KeyError:
            known = sorted(self._sinks)
            raise UnknownDrafter(f"No feature sink {address!r} in this process. Known: {known}.") from None
