"""Every test may rely on this: one thread per library, no network, and a time limit per ring."""

from __future__ import annotations

import os
from pathlib import Path

# Set before anything imports NumPy or torch: the tests run many processes on few cores, and a fixed number of threads
# keeps float sums repeatable. Child processes inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import pytest

RING_TIMEOUT_S = {
    "unit": 60.0,
    "k8s": 60.0,
    "contract": 120.0,
    "golden": 120.0,
    "statistical": 180.0,
    "integration": 300.0,
    "fault": 300.0,
    "gpu": 300.0,
}
"""Wide, for two shared cores: a test that hangs is stopped, a slow one is seen in `--durations`."""

TESTS = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give every test the time limit of its folder, and mark what needs a GPU."""
    for item in items:
        ring = item.path.relative_to(TESTS).parts[0] if item.path.is_relative_to(TESTS) else ""
        if ring in RING_TIMEOUT_S and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(RING_TIMEOUT_S[ring]))
        if ring == "gpu":
            item.add_marker(pytest.mark.gpu)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip GPU tests where there is no GPU; torch is imported only when such a test was selected."""
    if item.get_closest_marker("gpu") is not None:
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs an NVIDIA GPU")
