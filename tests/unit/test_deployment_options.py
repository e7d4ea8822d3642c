"""Serve is given the right placement, caps, scaling and draining, and the shipped configurations are accepted."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from ray.serve.schema import ServeDeploySchema

import deployments
from deployments.app import build, drafter_pools
from deployments.autoscaling import SessionsPolicy
from deployments.options import drafter_options, router_options, target_options
from hedgespec.config import (
    AppArgs,
    AutoscalingConfig,
    DrafterConfig,
    LimitsConfig,
    RouterConfig,
    TargetConfig,
    laptop_args,
)
from hedgespec.errors import ConfigError

CONFIGS = sorted((Path(deployments.__file__).parent / "configs").glob("*.yaml"))
LIMITS = LimitsConfig(request_timeout_s=300.0)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_configs_pass_serves_schema_and_ours_and_build(path: Path) -> None:
    """Serve's own schema, AppArgs, and the builder accept what a user deploys."""
    content = yaml.safe_load(path.read_text())
    schema = ServeDeploySchema.model_validate(content)
    (application,) = schema.applications
    assert application.import_path == "deployments.app:build"
    args = AppArgs.model_validate(application.args)
    assert build(args) is not None
    assert len(args.drafters) >= 4


def test_the_laptop_config_is_the_embedded_default() -> None:
    (path,) = [p for p in CONFIGS if p.stem == "laptop"]
    content = yaml.safe_load(path.read_text())
    assert AppArgs.model_validate(content["applications"][0]["args"]) == laptop_args()


def test_a_gpu_is_asked_for_only_on_cuda() -> None:
    on_cpu = target_options(TargetConfig(gpus=0.5), LIMITS)["ray_actor_options"]
    on_gpu = target_options(TargetConfig(gpus=0.5, device="cuda", cpus=2, node_label="target"), LIMITS)
    assert on_cpu == {"num_cpus": 0.0}
    assert on_gpu["ray_actor_options"] == {
        "num_cpus": 2.0,
        "num_gpus": 0.5,
        "label_selector": {"hedgespec/role": "target"},
    }


def test_the_lease_cap_is_the_session_cap_and_draining_outlasts_the_longest_answer() -> None:
    options = target_options(TargetConfig(max_sessions=7), LIMITS)
    assert options["max_ongoing_requests"] == 7
    assert options["graceful_shutdown_timeout_s"] > LIMITS.request_timeout_s
    router = router_options(RouterConfig(max_ongoing_requests=9), LIMITS)
    assert router["max_ongoing_requests"] == 9
    assert router["max_queued_requests"] > 9
    assert router["graceful_shutdown_timeout_s"] > LIMITS.request_timeout_s


def test_a_drafter_does_not_hold_up_a_shutdown_with_its_connection_leases() -> None:
    options = drafter_options(DrafterConfig(id="n", kind="ngram"))
    assert options["graceful_shutdown_timeout_s"] <= 10.0


def test_drafters_scale_on_sessions_and_not_on_leases() -> None:
    scaling = AutoscalingConfig(min_replicas=1, max_replicas=5, target_ongoing_requests=10)
    options = drafter_options(DrafterConfig(id="n", kind="ngram", replicas=scaling))["autoscaling_config"]
    assert options["policy"]["policy_function"] == "deployments.autoscaling:SessionsPolicy"
    policy = SessionsPolicy(**options["policy"]["policy_kwargs"])

    def wanted(recorded: dict[str, float]) -> int:
        return policy(SimpleNamespace(aggregated_metrics={"sessions": recorded}))[0]

    assert [wanted({}), wanted({"a": 10.0}), wanted({"a": 10.0, "b": 11.0})] == [1, 1, 3]
    assert policy(SimpleNamespace(aggregated_metrics=None))[0] == 1


def test_drafters_of_a_group_share_one_deployment() -> None:
    configs = (
        DrafterConfig(id="a", kind="ngram", group="small"),
        DrafterConfig(id="b", kind="ngram"),
        DrafterConfig(id="c", kind="ngram", group="small"),
    )
    pools = drafter_pools(configs)
    assert {name: [d.id for d in members] for name, members in pools.items()} == {
        "Drafters-small": ["a", "c"],
        "Drafter-b": ["b"],
    }


def test_a_group_with_two_placements_is_refused() -> None:
    configs = (
        DrafterConfig(id="a", kind="ngram", group="small"),
        DrafterConfig(id="b", kind="ngram", group="small", node_label="x"),
    )
    with pytest.raises(ConfigError, match="node_label"):
        drafter_pools(configs)
