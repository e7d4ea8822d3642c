"""A drafter kind checks the configuration of its drafters and loads them.

The router validates configurations with it, so a kind's module imports torch and its model inside `load` only. A new kind
is one file with an instance of a subclass, and one line in `hedgespec/catalogue.py` or in a package's entry points.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

from hedgespec.config import DrafterConfig, TargetConfig
from hedgespec.errors import ConfigError
from hedgespec.models.drafter_model import DrafterModel
from hedgespec.protocols import Drafter

LoadedDrafters = Mapping[str, DrafterModel | Drafter]
"""Drafter id -> a model, which runs in the engine of its process, or a drafter that runs by itself."""


class DrafterKind(ABC):
    """Base class of all kinds.

    takes_model: a configuration must name a `model`; otherwise it must not
    takes_int8:  the weights can be rounded to int8 on a CPU (`quantization`)
    """

    takes_model = True
    takes_int8 = False

    def check(self, config: DrafterConfig) -> None:
        """Raise ConfigError for a setting that this kind does not take."""
        role = f"drafter {config.id!r}: kind {config.kind}"
        if self.takes_model and config.model is None:
            raise ConfigError(f"{role} needs a model (a folder, zoo or smollm2)")
        if not self.takes_model and config.model is not None:
            raise ConfigError(f"{role} takes no model")
        if config.quantization == "int8" and not (self.takes_int8 and config.device == "cpu"):
            raise ConfigError(f"{role} on device {config.device} has no int8 weights; leave quantization out")

    @abstractmethod
    def load(self, configs: Sequence[DrafterConfig], target: TargetConfig) -> LoadedDrafters:
        """Load all drafters of this kind in one process.

        configs: with `model` a folder. target: the model they draft for, whose vocabulary they share.
        Raises ModelFolderError, ConfigError.
        """


def model_folder(model: str | None, role: str) -> Path:
    """Return the folder that `model` names. Raises ConfigError for a name that `assembly.model_sources` has to resolve."""
    if not model or model in ("zoo", "smollm2") or model.startswith("tabular:"):
        raise ConfigError(f"{role}: {model!r} must be resolved to a model folder before it is built.")
    return Path(model).expanduser()
