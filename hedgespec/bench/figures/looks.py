"""The colour and marker of every policy, the same in every picture; mostly Okabe and Ito's colours for the colour-blind.

Fixed choices are black, grey and green, the classifier is purple, bandits are warm, learners are blue. Markers differ too,
because ten colours are hard to tell apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Look:
    """The look of a policy in pictures. line: a matplotlib line style."""

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
"""Names of policies in the studies -> their names in `bench policies`."""

_DRAFTER_COLOURS = ("#000000", "#CC6677", "#88CCEE", "#117733", "#DDCC77", "#882255", "#44AA99", "#777777")
"""Tol's muted colours, none of which is a policy's; the first drafter is the generic one."""

MAIN = tuple(_LOOKS)
"""The policies with a look of their own, in the order of legends."""


def look(name: str) -> Look:
    """Return the look of a policy; one without a look of its own is thin and grey."""
    return _LOOKS.get(canonical(name), Look(name, "#BBBBBB", "."))


def canonical(name: str) -> str:
    """Return the name of a policy in `bench policies`."""
    return _OTHER_NAMES.get(name, name)


def in_order(names: Sequence[str]) -> list[str]:
    """Sort policies as in MAIN; the others follow as they came."""
    rank = {name: position for position, name in enumerate(MAIN)}
    return sorted(names, key=lambda name: rank.get(canonical(name), len(rank)))


def drafter_colour(index: int) -> str:
    """Return the colour of a drafter's curve."""
    return _DRAFTER_COLOURS[index % len(_DRAFTER_COLOURS)]
