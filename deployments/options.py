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
        **_options(config),
        "max_ongoing_requests": config.max_sessions,
        "graceful_shutdown_timeout_s": limits.request_timeout_s + DRAIN_MARGIN_S,
    }


def drafter_options(config: ReplicaConfig) -> dict[str, Any]:
    """Return a drafter's options. Its leases do not show load, so it scales by the session counts that it records."""
    options = {
        **_options(config),
        "max_ongoing_requests": MAX_DRAFTER_LEASES,
        "graceful_shutdown_timeout_s": DRAFTER_DRAIN_S,
    }
    if isinstance(config.replicas, AutoscalingConfig):
        options["autoscaling_config"]["policy"] = {
            "policy_function": SESSIONS_POLICY,
            "policy_kwargs": {"target_sessions": config.replicas.target_ongoing_requests},
        }
    return options


def router_options(config: RouterConfig, limits: LimitsConfig) -> dict[str, Any]:
    """Return the router's options. The API limits tenants; Serve's queue is only a wide safety net."""
    return {
        **_options(config),
        "max_ongoing_requests": config.max_ongoing_requests,
        "max_queued_requests": QUEUED_PER_ONGOING * config.max_ongoing_requests,
        "graceful_shutdown_timeout_s": limits.request_timeout_s + DRAIN_MARGIN_S,
    }


def _options(config: ReplicaConfig | RouterConfig) -> dict[str, Any]:
    """Return what all deployments have in common: health checks, placement and number of replicas."""
    actor: dict[str, Any] = {"num_cpus": config.cpus}
    if isinstance(config, ReplicaConfig) and config.device == "cuda":
        actor["num_gpus"] = config.gpus
    if config.node_label is not None:
        actor["label_selector"] = {ROLE_LABEL: config.node_label}
    options = {"health_check_period_s": 5.0, "health_check_timeout_s": 15.0, "graceful_shutdown_wait_loop_s": 0.5}
    if isinstance(config.replicas, int):
        return {**options, "ray_actor_options": actor, "num_replicas": config.replicas}
    return {**options, "ray_actor_options": actor, "autoscaling_config": config.replicas.model_dump()}
