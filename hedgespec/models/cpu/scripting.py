"""Passes without the interpreter: TorchScript runs a whole pass in one call, and other threads go on meanwhile.

Operators called one by one from Python take the interpreter's lock between them, and wait for it while another thread
computes (ADR 12). What is scripted is ordinary code that gives the same when it is not.
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
"""So many calls until a pass is as fast as it gets: in the first torch looks at what comes in, in the second it compiles."""

M = TypeVar("M", bound=nn.Module)
F = TypeVar("F", bound=Callable[..., object])


def exported(method: F) -> F:
    """Of a module that is scripted: to be called from outside, beside `forward`."""
    export = getattr(torch.jit, "export", None)
    return method if export is None else cast("F", export(method))


def scripted(module: M) -> M:
    """The module, compiled; the module itself with a torch that cannot (any more)."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            return cast("M", torch.jit.script(module))
    except Exception as error:  # whatever torch raises: it is slower without, and nothing else
        log.warning("not_scripted", module=type(module).__name__, reason=str(error).strip().splitlines()[:1])
        return module
