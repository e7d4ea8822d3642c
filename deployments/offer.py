"""What a replica tells a router when it grants a lease: where to connect, and what is there."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DrafterOffer:
    drafter_id: str
    digest: str
    uses_features: bool


@dataclass(frozen=True, slots=True)
class Offer:
    """address: HOST:PORT of the replica's gRPC server. drafters: empty on a target."""

    address: str
    lease_id: str
    drafters: tuple[DrafterOffer, ...] = ()
