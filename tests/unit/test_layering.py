"""The router process stays light: what it imports pulls in neither torch nor transformers, and only `deployments` knows Ray.

The contracts in pyproject.toml (`lint-imports`, part of `make check`) prove it for the source; these tests prove it for a
running interpreter, third-party packages included.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = ("torch", "transformers", "ray")

ROUTER_MODULES = ("hedgespec.router.service", "hedgespec.api.app", "hedgespec.rpc.client")


def imported_packages(module: str) -> set[str]:
    """Top-level packages in `sys.modules` after importing `module` in a fresh interpreter."""
    program = f"import sys, json, {module}; print(json.dumps(sorted({{name.split('.')[0] for name in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("module", ROUTER_MODULES)
def test_router_side_modules_import_neither_torch_nor_transformers_nor_ray(module: str) -> None:
    """A router replica is ready in seconds and needs no GPU libraries."""
    assert not imported_packages(module) & set(HEAVY)


def test_store_drivers_are_imported_only_when_their_store_is_used() -> None:
    """The nouns, the protocols and the configuration cost NumPy and pydantic, nothing else."""
    packages = imported_packages("hedgespec.protocols") | imported_packages("hedgespec.config")
    assert not packages & {*HEAVY, "redis", "grpc", "fastapi"}


def test_the_check_sees_a_heavy_import() -> None:
    """The probe itself works: accepting drafts does need torch."""
    assert "torch" in imported_packages("hedgespec.speculative.acceptance")
