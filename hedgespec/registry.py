"""A registry finds an implementation by the name that a configuration gives it, built in or from an installed package.

A built-in implementation is one file and one line in `hedgespec/catalogue.py`. A third-party package adds its own through
an entry point of the registry's group; nothing of HedgeSpec is edited. Modules are imported when their name is first
loaded, so a process imports only what its configuration names.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from functools import cache, cached_property
from importlib.metadata import entry_points
from pkgutil import resolve_name as load_object
from typing import Any, Generic, TypeVar, cast

from hedgespec.errors import ConfigError

T = TypeVar("T")


class Registry(Generic[T]):
    """Implementations of one kind by name.

    kind:     what an error message calls one of them ("learner")
    group:    entry-point group in which packages register theirs ("hedgespec.learners")
    built_in: name -> "module:attribute"
    """

    def __init__(self, kind: str, group: str, built_in: Mapping[str, str]) -> None:
        self.kind = kind
        self.group = group
        self._built_in = dict(built_in)

    def names(self) -> tuple[str, ...]:
        """Every known name, the built-in ones first, in the order of the catalogue."""
        return tuple(self._references)

    def __contains__(self, name: object) -> bool:
        return name in self._references

    def load(self, name: str) -> T:
        """Import and return the implementation of that name.

        Raises ConfigError for an unknown name, listing the known ones, and for one that cannot be imported.
        """
        self.check(name)
        reference = self._references[name]
        try:
            return cast(T, _loaded(reference))
        except (ImportError, AttributeError, ValueError) as error:
            raise ConfigError(f"The {self.kind} {name!r} cannot be loaded from {reference!r}: {error}.") from error

    def check(self, name: str) -> None:
        """Raise ConfigError unless the name is known; nothing is imported."""
        if name in self._references:
            return
        similar = difflib.get_close_matches(name, self._references, n=1)
        hint = f" Did you mean {similar[0]!r}?" if similar else ""
        raise ConfigError(f"No {self.kind} named {name!r}. Known: {', '.join(sorted(self._references))}.{hint}")

    @cached_property
    def _references(self) -> dict[str, str]:
        """Built-in names win: an installed package cannot change what a configuration means."""
        found = {point.name: point.value for point in entry_points(group=self.group)}
        return self._built_in | {name: value for name, value in sorted(found.items()) if name not in self._built_in}


@cache
def _loaded(reference: str) -> Any:
    return load_object(reference)
