"""TorchScript runs a whole pass in one call without the interpreter's lock, so that other threads go on meanwhile.

Operators called one by one from Python take the lock between calls, and wait for it while another thread computes (ADR
12). The scripted code is ordinary Python that computes the same when it is not compiled.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TypeVar, cast

import structlog
import torch
from torch import nn

log = structlog.get_logger(__name__)

NUM_REHEARSALS = 3
"""Calls until a pass is as fast as it gets: torch records argument types in the first and compiles in the second."""

M = TypeVar("M", bound=nn.Module)
F = TypeVar("F", bound=Callable[..., object])


def exported(method: F) -> F:
    """Mark a method that a scripted module offers besides `forward`."""
    export = getattr(torch.jit, "export", None)
    return method if export is None else cast("F", export(method))


def scripted(module: M) -> M:
    """Compile a module; return the module itself where torch cannot."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            return cast("M", torch.jit.script(module))
    except Exception as error:  # whatever torch raises: without it passes are slower, nothing else
        log.warning("not_scripted", module=type(module).__name__, reason=str(error).strip().splitlines()[:1])
        return module
