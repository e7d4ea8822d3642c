"""The options by which Serve places, scales and drains each deployment (design 8)."""

from __future__ import annotations

from typing import Any

from hedgespec.config import AutoscalingConfig, LimitsConfig, ReplicaConfig, RouterConfig

ROLE_LABEL = "hedgespec/role"
MAX_DRAFTER_LEASES = 256
"""A drafter has one lease per router, so this bounds the number of routers; sessions are bounded by the engine."""

DRAFTER_DRAIN_S = 5.0
"""A drafter's leases last as long as the routers and would never drain; losing a drafter costs speed, not answers."""

DRAIN_MARGIN_S = 30.0
QUEUED_PER_ONGOING = 8
SESSIONS_POLICY = "deployments.autoscaling:SessionsPolicy"


def target_options(config: ReplicaConfig, limits: LimitsConfig) -> dict[str, Any]:
    """Return the target's options. Leases are ongoing requests, so their cap is that of sessions; draining waits for the
    longest answer."""
    return {
        **_model_options(config),
        "max_ongoing_requests": config.max_sessions,
        "graceful_shutdown_timeout_s": limits.request_timeout_s + DRAIN_MARGIN_S,
        **_scaling(config.replicas),
    }


def drafter_options(config: ReplicaConfig) -> dict[str, Any]:
    """Return a drafter's options. Its leases do not show load, so it scales by the session counts that it records."""
    scaling = _scaling(config.replicas)
    if isinstance(config.replicas, AutoscalingConfig):
        scaling["autoscaling_config"]["policy"] = {
            "policy_function": SESSIONS_POLICY,
            "policy_kwargs": {"target_sessions": config.replicas.target_ongoing_requests},
        }
    return {
        **_model_options(config),
        "max_ongoing_requests": MAX_DRAFTER_LEASES,
        "graceful_shutdown_timeout_s": DRAFTER_DRAIN_S,
        **scaling,
    }


def router_options(config: RouterConfig, limits: LimitsConfig) -> dict[str, Any]:
    """Return the router's options. The API limits tenants; Serve's queue is only a wide safety net."""
    return {
        **_common(),
        "ray_actor_options": _actor_options(config.cpus, 0.0, config.node_label),
        "max_ongoing_requests": config.max_ongoing_requests,
        "max_queued_requests": QUEUED_PER_ONGOING * config.max_ongoing_requests,
        "graceful_shutdown_timeout_s": limits.request_timeout_s + DRAIN_MARGIN_S,
        **_scaling(config.replicas),
    }


def _model_options(config: ReplicaConfig) -> dict[str, Any]:
    gpus = config.gpus if config.device == "cuda" else 0.0
    return {**_common(), "ray_actor_options": _actor_options(config.cpus, gpus, config.node_label)}


def _common() -> dict[str, Any]:
    return {"health_check_period_s": 5.0, "health_check_timeout_s": 15.0, "graceful_shutdown_wait_loop_s": 0.5}


def _actor_options(cpus: float, gpus: float, node_label: str | None) -> dict[str, Any]:
    options: dict[str, Any] = {"num_cpus": cpus}
    if gpus:
        options["num_gpus"] = gpus
    if node_label is not None:
        options["label_selector"] = {ROLE_LABEL: node_label}
    return options


def _scaling(replicas: int | AutoscalingConfig) -> dict[str, Any]:
    if isinstance(replicas, int):
        return {"num_replicas": replicas}
    return {"autoscaling_config": replicas.model_dump()}
