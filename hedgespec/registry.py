"""A registry finds an implementation by the name that a configuration gives it, built in or from an installed package.

A built-in implementation is one file and one line in `hedgespec/catalogue.py`. A third-party package adds its own through
an entry point of the registry's group; nothing of HedgeSpec is edited. Modules are imported when their name is first
loaded, so a process imports only what its configuration names.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
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
    subclass_of, instance_of: "module:class" that an implementation must derive from or belong to; else it must be callable
    renamed:  former name -> the name to use now, for error messages
    """

    def __init__(
        self,
        kind: str,
        group: str,
        built_in: Mapping[str, str],
        *,
        subclass_of: str = "",
        instance_of: str = "",
        renamed: Mapping[str, str] | None = None,
    ) -> None:
        self.kind = kind
        self.group = group
        self.built_in = dict(built_in)
        self._subclass_of = subclass_of
        self._instance_of = instance_of
        self.renamed = dict(renamed or {})

    def names(self) -> tuple[str, ...]:
        """Every known name, the built-in ones first, in the order of the catalogue."""
        return tuple(self._references)

    def __contains__(self, name: object) -> bool:
        return name in self._references

    def load(self, name: str) -> T:
        """Import and return the implementation of that name.

        Raises ConfigError for an unknown name, listing the known ones, for one that cannot be imported or is not what the
        catalogue asks for, and for one that two packages register.
        """
        self.check(name)
        references = self._references[name]
        if len(references) > 1:
            raise ConfigError(
                f"The {self.kind} {name!r} is registered twice: {', '.join(references)}. Remove a package."
            )
        try:
            loaded = _loaded(references[0])
            problem = self._problem(loaded)
        except Exception as error:  # whatever an installed package does when it is imported
            reason = f"{type(error).__name__}: {error}"
            raise ConfigError(f"The {self.kind} {name!r} cannot be loaded from {references[0]!r}: {reason}.") from error
        if problem:
            raise ConfigError(f"The {self.kind} {name!r} of {references[0]!r} {problem}.")
        return cast(T, loaded)

    def check(self, name: str) -> None:
        """Raise ConfigError unless the name is known; nothing is imported."""
        if name not in self._references:
            raise unknown_name(self.kind, name, self._references, self.renamed)

    def _problem(self, loaded: object) -> str:
        if self._instance_of:
            return "" if isinstance(loaded, _loaded(self._instance_of)) else f"is no instance of {self._instance_of}"
        if self._subclass_of:
            base = _loaded(self._subclass_of)
            is_one = isinstance(loaded, type) and issubclass(loaded, base)
            return "" if is_one else f"is no subclass of {self._subclass_of}"
        return "" if callable(loaded) else "cannot be called"

    @cached_property
    def _references(self) -> dict[str, tuple[str, ...]]:
        """Built-in names win: an installed package cannot change what a configuration means."""
        found: dict[str, tuple[str, ...]] = {name: (value,) for name, value in self.built_in.items()}
        for point in sorted(entry_points(group=self.group), key=lambda point: (point.name, point.value)):
            if point.name not in self.built_in and point.value not in found.get(point.name, ()):
                found[point.name] = (*found.get(point.name, ()), point.value)
        return found


def unknown_name(kind: str, name: str, known: Iterable[str], renamed: Mapping[str, str] | None = None) -> ConfigError:
    """The error for a name that is not known, with the known ones and a guess. renamed: former name -> today's."""
    known = sorted(known)
    if renamed and name in renamed:
        return ConfigError(f"No {kind} named {name!r}: it is called {renamed[name]!r} now.")
    similar = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean {similar[0]!r}?" if similar else ""
    return ConfigError(f"No {kind} named {name!r}. Known: {', '.join(known)}.{hint}")


@cache
def _loaded(reference: str) -> Any:
    return load_object(reference)
