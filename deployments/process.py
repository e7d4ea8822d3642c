"""The setup of a replica's process before its model is loaded."""

from __future__ import annotations

import os

LOOPBACK = "127.0.0.1"


def own_host() -> str:
    """Return the address at which other replicas reach this process; loopback outside of Ray (local testing mode)."""
    # imported late: `hedgespec serve` must set Ray's environment variables before anything imports it
    import ray

    return ray.util.get_node_ip_address() if ray.is_initialized() else LOOPBACK


def limit_threads(num_threads: int) -> None:
    """Limit the numeric libraries' threads. It only works before torch is imported, so replicas call it first."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(num_threads)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
