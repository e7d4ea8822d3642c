"""Features inside one process: an address is a drafter, handing over is a reference."""

from __future__ import annotations

from hedgespec.errors import UnknownDrafter
from hedgespec.protocols import FeatureSink

LOCAL = "local:"


class LocalFeatureTransport:
    """A `FeatureTransport` for addresses `local:<drafter id>`."""

    def __init__(self) -> None:
        self._sinks: dict[str, FeatureSink] = {}

    def register(self, drafter_id: str, sink: FeatureSink) -> None:
        self._sinks[LOCAL + drafter_id] = sink

    def sink(self, address: str) -> FeatureSink:
        try:
            return self._sinks[address]
        except KeyError:
            known = sorted(self._sinks)
            raise UnknownDrafter(f"No feature sink {address!r} in this process. Known: {known}.") from None
