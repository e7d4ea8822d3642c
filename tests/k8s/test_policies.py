"""Our own rules hold for every kustomization, and each rule is shown to catch what it is there for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import yaml

from tests.k8s import policies
from tests.k8s.manifests import KUSTOMIZATIONS, Doc, cluster_config, load, only, pod_templates, serve_config

GRPC_PORT = 50051
GRACEFUL_S = {"router": 600.0, "target": 600.0}

CHECKS: dict[str, policies.Check] = {
    check.__name__: check
    for check in (
        policies.deployments_are_pinned_to_their_own_worker_group,
        policies.model_pods_hold_one_replica,
        policies.pods_can_follow_replicas,
        policies.the_head_does_no_work,
        policies.no_secret_is_written_down,
        policies.pods_are_restricted,
        policies.only_the_head_may_talk_to_kubernetes,
        policies.memory_limits_equal_requests,
        policies.disruption_budgets_allow_drains,
        policies.ray_is_fault_tolerant_and_closed,
    )
} | {
    "fixed_ports_match": lambda docs: policies.fixed_ports_match(docs, GRPC_PORT),
    "deadlines_are_nested": lambda docs: policies.deadlines_are_nested(docs, GRACEFUL_S),
}


@pytest.mark.parametrize("kustomization", KUSTOMIZATIONS)
@pytest.mark.parametrize("check", CHECKS)
def test_manifests_follow_our_rules(check: str, kustomization: str) -> None:
    assert CHECKS[check](load(kustomization)) == []


def group(docs: list[Doc], name: str) -> Doc:
    return next(g for g in cluster_config(docs)["workerGroupSpecs"] if g["groupName"] == name)


def pod(docs: list[Doc], name: str) -> Doc:
    return next(p.spec for p in pod_templates(docs) if p.name == name)


def edit_args(docs: list[Doc], edit: Callable[[Any], object]) -> None:
    config = serve_config(docs)
    edit(config["applications"][0]["args"])
    only(docs, "RayService")["spec"]["serveConfigV2"] = yaml.safe_dump(config)


def relabel(docs: list[Doc]) -> None:
    group(docs, "drafter-sql")["labels"]["hedgespec/role"] = "drafter-python"


def unpin_the_router(docs: list[Doc]) -> None:
    edit_args(docs, lambda args: args["router"].pop("node_label"))


def take_two_gpus(docs: list[Doc]) -> None:
    pod(docs, "target")["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] = 2


def give_the_router_a_gpu(docs: list[Doc]) -> None:
    pod(docs, "router")["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] = 1


def share_a_gpu(docs: list[Doc]) -> None:
    edit_args(docs, lambda args: args["drafters"][0].update(gpus=0.5))


def crowd_the_ngram_pod(docs: list[Doc]) -> None:
    edit_args(docs, lambda args: args["drafters"][-1].update(cpus=1))


def scale_beyond_the_pods(docs: list[Doc]) -> None:
    edit_args(docs, lambda args: args["target"]["replicas"].update(max_replicas=9))


def work_on_the_head(docs: list[Doc]) -> None:
    del cluster_config(docs)["headGroupSpec"]["resources"]


def write_a_password_into_the_url(docs: list[Doc]) -> None:
    edit_args(docs, lambda args: args["store"].update(url="redis://hedgespec:hunter2@learner-redis:6379/0"))


def write_a_password_into_the_environment(docs: list[Doc]) -> None:
    pod(docs, "router")["containers"][0]["env"].append({"name": "REDIS_PASSWORD", "value": "hunter2"})


def commit_a_secret(docs: list[Doc]) -> None:
    docs.append({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}, "stringData": {}})


def run_as_root(docs: list[Doc]) -> None:
    pod(docs, "router")["securityContext"]["runAsUser"] = 0


def keep_capabilities(docs: list[Doc]) -> None:
    del pod(docs, "learner-redis")["initContainers"][0]["securityContext"]["capabilities"]


def mount_the_host(docs: list[Doc]) -> None:
    pod(docs, "target")["volumes"].append({"name": "models", "hostPath": {"path": "/models"}})


def leave_the_autoscaler_open(docs: list[Doc]) -> None:
    del cluster_config(docs)["autoscalerOptions"]["securityContext"]


def mount_the_token(docs: list[Doc]) -> None:
    del pod(docs, "drafter-generic")["automountServiceAccountToken"]


def ask_for_rights(docs: list[Doc]) -> None:
    docs.append(
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "hedgespec"}, "rules": []}
    )


def overcommit_memory(docs: list[Doc]) -> None:
    pod(docs, "router")["containers"][0]["resources"]["requests"]["memory"] = "1Gi"


def block_drains(docs: list[Doc]) -> None:
    only(docs, "PodDisruptionBudget", "hedgespec-router")["spec"]["minAvailable"] = 2


def budget_in_percent(docs: list[Doc]) -> None:
    only(docs, "PodDisruptionBudget", "hedgespec-target")["spec"]["minAvailable"] = "50%"


def open_the_dashboard(docs: list[Doc]) -> None:
    cluster_config(docs)["authOptions"]["mode"] = "disabled"


def share_one_redis(docs: list[Doc]) -> None:
    cluster_config(docs)["gcsFaultToleranceOptions"]["redisAddress"] = "learner-redis:6379"


def serve_from_the_target(docs: list[Doc]) -> None:
    pod(docs, "target")["containers"][0]["ports"].append({"name": "serve", "containerPort": 8000})


def use_a_free_port(docs: list[Doc]) -> None:
    edit_args(docs, lambda args: args["target"].update(port=0))


def allow_longer_requests(docs: list[Doc]) -> None:
    edit_args(docs, lambda args: args["limits"].update(request_timeout_s=700))


def shorten_the_grace_period(docs: list[Doc]) -> None:
    pod(docs, "target")["terminationGracePeriodSeconds"] = 30


def delete_old_clusters_at_once(docs: list[Doc]) -> None:
    only(docs, "RayService")["spec"]["rayClusterDeletionDelaySeconds"] = 60


VIOLATIONS = [
    ("deployments_are_pinned_to_their_own_worker_group", relabel),
    ("deployments_are_pinned_to_their_own_worker_group", unpin_the_router),
    ("model_pods_hold_one_replica", take_two_gpus),
    ("model_pods_hold_one_replica", give_the_router_a_gpu),
    ("model_pods_hold_one_replica", share_a_gpu),
    ("model_pods_hold_one_replica", crowd_the_ngram_pod),
    ("pods_can_follow_replicas", scale_beyond_the_pods),
    ("the_head_does_no_work", work_on_the_head),
    ("no_secret_is_written_down", write_a_password_into_the_url),
    ("no_secret_is_written_down", write_a_password_into_the_environment),
    ("no_secret_is_written_down", commit_a_secret),
    ("pods_are_restricted", run_as_root),
    ("pods_are_restricted", keep_capabilities),
    ("pods_are_restricted", mount_the_host),
    ("pods_are_restricted", leave_the_autoscaler_open),
    ("only_the_head_may_talk_to_kubernetes", mount_the_token),
    ("only_the_head_may_talk_to_kubernetes", ask_for_rights),
    ("memory_limits_equal_requests", overcommit_memory),
    ("disruption_budgets_allow_drains", block_drains),
    ("disruption_budgets_allow_drains", budget_in_percent),
    ("ray_is_fault_tolerant_and_closed", open_the_dashboard),
    ("ray_is_fault_tolerant_and_closed", share_one_redis),
    ("ray_is_fault_tolerant_and_closed", serve_from_the_target),
    ("fixed_ports_match", use_a_free_port),
    ("deadlines_are_nested", allow_longer_requests),
    ("deadlines_are_nested", shorten_the_grace_period),
    ("deadlines_are_nested", delete_old_clusters_at_once),
]


@pytest.mark.parametrize(("check", "violate"), VIOLATIONS, ids=lambda value: getattr(value, "__name__", value))
def test_each_rule_catches_its_violation(check: str, violate: Callable[[list[Doc]], None]) -> None:
    docs = load("base")
    violate(docs)
    assert CHECKS[check](docs) != []


def test_every_rule_has_a_violation_that_it_catches() -> None:
    assert {check for check, _ in VIOLATIONS} == CHECKS.keys()
