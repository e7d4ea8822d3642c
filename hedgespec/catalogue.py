"""Everything that a configuration can choose by name, on one page: one line per implementation.

A line is "module:attribute"; the module is imported when a configuration names it. What each attribute has to be is said
above its registry. Packages add their own through the entry-point group that stands there.
"""

from __future__ import annotations

from typing import Any

from hedgespec.registry import Registry

LEARNERS: Registry[Any] = Registry("learner", "hedgespec.learners", {})
"""`(settings: LearnerSettings) -> Learner`, see `hedgespec.learning.learners.learner`."""

OBJECTIVES: Registry[Any] = Registry("objective", "hedgespec.objectives", {})
"""A class of objectives, see `hedgespec.learning.objectives`."""
