"""The Serve application: a Serve config names it as `import_path: deployments.app:build`, with AppArgs as its `args`.

There is no `from __future__ import annotations` here: Serve reads the annotation of `build` to validate `args`.
"""

from collections.abc import Sequence
from typing import Any

from ray import serve
from ray.serve import Application

from deployments.options import drafter_options, router_options, target_options
from deployments.replicas import DrafterReplica, TargetReplica
from deployments.router import RouterReplica
from hedgespec.assembly.model_sources import located
from hedgespec.config import AppArgs, DrafterConfig
from hedgespec.errors import ConfigError

TARGET = "Target"
ROUTER = "Router"


def build(args: AppArgs) -> Application:
    """Build one deployment for the target, one per drafter (or group of drafters), and the router in front of them."""
    args = located(args)
    target = serve.deployment(TargetReplica).options(name=TARGET, **target_options(args.target, args.limits))
    pools = tuple(
        serve.deployment(DrafterReplica).options(name=name, **drafter_options(configs[0])).bind(configs, args.target)
        for name, configs in drafter_pools(args.drafters).items()
    )
    ingress: Any = serve.ingress()(RouterReplica)
    router = serve.deployment(ingress).options(name=ROUTER, **router_options(args.router, args.limits))
    return router.bind(args, target.bind(args.target), pools)


def drafter_pools(configs: Sequence[DrafterConfig]) -> dict[str, tuple[DrafterConfig, ...]]:
    """Return the drafters of every deployment by its name, in the configured order.

    Raises ConfigError when drafters of one group ask for different placements.
    """
    pools: dict[str, list[DrafterConfig]] = {}
    for config in configs:
        name = f"Drafters-{config.group}" if config.group is not None else f"Drafter-{config.id}"
        pools.setdefault(name, []).append(config)
    for name, members in pools.items():
        for key in ("device", "gpus", "cpus", "node_label", "port", "replicas"):
            values = {repr(getattr(member, key)) for member in members}
            if len(values) > 1:
                raise ConfigError(f"{name}: drafters of one group share a process, so {key} must be the same for all.")
    return {name: tuple(members) for name, members in pools.items()}
