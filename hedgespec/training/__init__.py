"""Training of EAGLE-3 heads. Importing this package needs neither torch nor transformers."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, float, str], None]
"""Called with the stage's name, the share of it that is done, and a line of figures."""

StageProgress = Callable[[float, str], None]
"""Called within one stage, with the share that is done and a line of figures."""
