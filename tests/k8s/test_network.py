"""The network policies, evaluated as a graph: exactly the flows that the design needs, nothing else.

Both ends must agree: the sender's egress rules and the receiver's ingress rules, as a network plug-in decides it.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

import pytest

from tests.k8s.manifests import KUSTOMIZATIONS, Doc, load, pod_templates

NAMESPACE = "hedgespec"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A kind of pod. Pods of other namespaces are ruled by policies that are not ours: they may send and receive."""

    name: str
    namespace: str
    labels: tuple[tuple[str, str], ...] = ()
    namespace_labels: tuple[tuple[str, str], ...] = ()
    address: str = "10.0.0.1"


OUTSIDE = (
    Endpoint("edge", "ingress", namespace_labels=(("hedgespec/edge", "true"),)),
    Endpoint("prometheus", "observability", namespace_labels=(("hedgespec/monitoring", "true"),)),
    Endpoint("operator", "kuberay-operator", namespace_labels=(("kubernetes.io/metadata.name", "kuberay-operator"),)),
    Endpoint("dns", "kube-system", (("k8s-app", "kube-dns"),), (("kubernetes.io/metadata.name", "kube-system"),)),
    Endpoint("api-server", "", address="203.0.113.7"),
    Endpoint("stranger", "elsewhere", namespace_labels=(("kubernetes.io/metadata.name", "elsewhere"),)),
)

PORTS = (53, 443, 6379, 6443, 8000, 8076, 8080, 8265, 10001, 10002, 19999, 20000, 50051, 52365)

RAY = ("head", "router", "target", "drafter")

RAY_MESH = {(a, b, port) for a in RAY for b in RAY for port in (8076, 10002, 19999, 52365)}

EXPECTED = RAY_MESH | {
    # an answer's way: client, router, models, features, preferences
    ("edge", "router", 8000),
    ("router", "target", 50051),
    ("router", "drafter", 50051),
    ("target", "drafter", 50051),
    ("router", "learner-redis", 6379),
    # Ray's control plane
    *((pod, "head", 6379) for pod in RAY),
    ("head", "gcs-redis", 6379),
    ("head", "api-server", 443),
    ("head", "api-server", 6443),
    ("operator", "head", 8265),
    # watching
    *(("prometheus", pod, 8080) for pod in RAY),
    ("prometheus", "router", 8000),
    *((pod, "dns", 53) for pod in (*RAY, "learner-redis", "gcs-redis")),
}


@pytest.mark.parametrize("kustomization", KUSTOMIZATIONS)
def test_exactly_the_designed_flows_are_allowed(kustomization: str) -> None:
    assert allowed_flows(load(kustomization)) == EXPECTED


def test_a_model_pod_reaches_neither_redis_nor_the_world() -> None:
    """A model process that was taken over finds nothing to steal from; spelt out here, since the sets above are long."""
    flows = allowed_flows(load("base"))
    for pod in ("target", "drafter"):
        assert (
            not {(pod, to, port) for to in ("learner-redis", "gcs-redis", "api-server", "stranger") for port in PORTS}
            & flows
        )
    assert not {flow for flow in flows if flow[0] == "stranger" or flow[1] == "stranger"}


def test_a_wider_rule_changes_the_graph() -> None:
    """The graph sees what a reviewer may miss: one selector that lost its labels."""
    docs = load("base")
    for doc in docs:
        if doc["metadata"]["name"] == "learner-redis-serves-router":
            doc["spec"]["ingress"][0]["from"] = [{"podSelector": {}}]
        if doc["metadata"]["name"] == "router-calls-learner-redis":
            doc["spec"]["podSelector"] = {}
    assert ("target", "learner-redis", 6379) in allowed_flows(docs) - EXPECTED


def test_without_default_deny_everything_is_open() -> None:
    docs = [doc for doc in load("base") if doc["metadata"]["name"] != "default-deny"]
    assert ("stranger", "learner-redis", 6379) not in allowed_flows(docs), "its own policy still isolates it"
    docs = [doc for doc in docs if doc["kind"] != "NetworkPolicy"]
    assert ("stranger", "learner-redis", 6379) in allowed_flows(docs)


def allowed_flows(docs: list[Doc]) -> set[tuple[str, str, int]]:
    """(from, to, port) that can be opened; pods of one component are one endpoint, and must agree."""
    policies = [doc["spec"] for doc in docs if doc["kind"] == "NetworkPolicy"]
    flows: set[tuple[str, str, int]] = set()
    endpoints = [*(_endpoint(pod.component, pod.labels) for pod in pod_templates(docs)), *OUTSIDE]
    for source in endpoints:
        for destination in endpoints:
            if source.namespace != NAMESPACE and destination.namespace != NAMESPACE:
                continue
            for port in PORTS:
                sends = _allows(policies, "Egress", source, destination, port)
                receives = _allows(policies, "Ingress", destination, source, port)
                if sends and receives:
                    flows.add((source.name, destination.name, port))
    return flows


def _endpoint(component: str, labels: dict[str, str]) -> Endpoint:
    return Endpoint(component, NAMESPACE, tuple(labels.items()))


def _allows(policies: list[Doc], direction: str, owner: Endpoint, peer: Endpoint, port: int) -> bool:
    if owner.namespace != NAMESPACE:
        return True
    mine = [p for p in policies if direction in p["policyTypes"] and _selects(p["podSelector"], dict(owner.labels))]
    if not mine:
        return True
    peers = "from" if direction == "Ingress" else "to"
    return any(
        any(_matches(entry, peer) for entry in rule[peers]) and any(_covers(entry, port) for entry in rule["ports"])
        for policy in mine
        for rule in policy.get(direction.lower(), [])
    )


def _matches(entry: Doc, peer: Endpoint) -> bool:
    if "ipBlock" in entry:
        # Address blocks are for the world outside: plug-ins do not match pods by them.
        return not peer.namespace and ipaddress.ip_address(peer.address) in ipaddress.ip_network(
            entry["ipBlock"]["cidr"]
        )
    if "namespaceSelector" in entry:
        in_namespace = _selects(entry["namespaceSelector"], dict(peer.namespace_labels))
    else:
        in_namespace = peer.namespace == NAMESPACE
    return bool(peer.namespace) and in_namespace and _selects(entry.get("podSelector", {}), dict(peer.labels))


def _covers(entry: Doc, port: int) -> bool:
    return entry["port"] <= port <= entry.get("endPort", entry["port"])


def _selects(selector: Doc, labels: dict[str, str]) -> bool:
    if any(labels.get(key) != value for key, value in selector.get("matchLabels", {}).items()):
        return False
    for expression in selector.get("matchExpressions", []):
        assert expression["operator"] == "In", "only In is used; teach this test the others first"
        if labels.get(expression["key"]) not in expression["values"]:
            return False
    return True
