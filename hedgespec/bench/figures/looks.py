"""One colour and marker per policy, the same in every picture; mostly Okabe and Ito's colours for the colour-blind.

Fixed choices are black, grey and green, the classifier is purple, bandits are warm, learners are blue. Markers differ too,
because ten colours are more than anybody tells apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Look:
    label: str
    colour: str
    marker: str
    line: str = "-"


_LOOKS = {
    "plain": Look("plain decoding", "#999999", "_", ":"),
    "random": Look("random drafter", "#777777", "x", ":"),
    "generic": Look("generic drafter", "#000000", "s", "--"),
    "best expert": Look("domain's best drafter", "#009E73", "D", "--"),
    "prompt router": Look("prompt router", "#CC79A7", "v"),
    "exp3spec": Look("EXP3Spec", "#8C510A", ">"),
    "ucbspec": Look("UCBSpec", "#E69F00", "^"),
    "tuned ucb": Look("tuned UCB", "#D55E00", "<"),
    "normalhedge length": Look("NormalHedge, length", "#56B4E9", "P"),
    "normalhedge rounds": Look("NormalHedge, rounds", "#0072B2", "o"),
    "adaptive rounds": Look("adaptive, rounds", "#332288", "X"),
}

_OTHER_NAMES = {
    "best drafter of the domain": "best expert",
    "normalhedge": "normalhedge rounds",
    "adaptive": "adaptive rounds",
}
"""What the studies call a policy that `bench policies` has under another name."""

_DRAFTER_COLOURS = ("#000000", "#CC6677", "#88CCEE", "#117733", "#DDCC77", "#882255", "#44AA99", "#777777")
"""Tol's muted colours, none of which is a policy's; the first drafter is the generic one."""

MAIN = tuple(_LOOKS)


def look(name: str) -> Look:
    """A policy without a look of its own is thin and grey, under its own name."""
    return _LOOKS.get(canonical(name), Look(name, "#BBBBBB", "."))


def canonical(name: str) -> str:
    return _OTHER_NAMES.get(name, name)


def in_order(names: Sequence[str]) -> list[str]:
    """As in MAIN, then the others as they came."""
    rank = {name: place for place, name in enumerate(MAIN)}
    return sorted(names, key=lambda name: rank.get(canonical(name), len(rank)))


def drafter_colour(index: int) -> str:
    return _DRAFTER_COLOURS[index % len(_DRAFTER_COLOURS)]
