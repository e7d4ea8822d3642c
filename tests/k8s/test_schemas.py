"""Every manifest fits the schema that the API server would check it against, with unknown fields rejected."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from tests.k8s.manifests import KUSTOMIZATIONS, load, only, pod_templates

CRD = Path(__file__).parents[3] / "shared" / "k8s" / "ray.io_rayservices.v1.7.0.yaml"

OLDEST, NEWEST = "1.30", "1.37"
"""Kubernetes versions the manifests are meant for; the newest is the newest that the schemas know."""


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("kustomization", KUSTOMIZATIONS)
def test_core_manifests_fit_the_strict_kubernetes_schema(kustomization: str, version: str) -> None:
    for doc in load(kustomization):
        if doc["kind"] != "RayService":
            kubernetes_validate.validate(doc, version, strict=True)


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("kustomization", KUSTOMIZATIONS)
def test_ray_pod_templates_fit_the_strict_pod_schema(kustomization: str, version: str) -> None:
    """The RayService schema is looser about pods than the API server, which sees them later."""
    for pod in pod_templates(load(kustomization)):
        doc = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": pod.name, "labels": pod.labels},
            "spec": pod.spec,
        }
        kubernetes_validate.validate(doc, version, strict=True)


def test_the_core_schema_rejects_a_misspelt_field() -> None:
    service = only(load("base"), "Service", "learner-redis")
    service["spec"]["ports"][0]["targetPrt"] = 6379
    with pytest.raises(kubernetes_validate.ValidationError, match="targetPrt"):
        kubernetes_validate.validate(service, NEWEST, strict=True)


@pytest.fixture(scope="module")
def crd_validator() -> jsonschema.Draft202012Validator:
    if not CRD.exists():
        pytest.skip(f"KubeRay's CRD is not here ({CRD.name}); it is 1 MB and belongs to KubeRay")
    crd = yaml.load(CRD.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    (schema,) = [v["schema"]["openAPIV3Schema"] for v in crd["spec"]["versions"] if v["name"] == "v1"]
    return jsonschema.Draft202012Validator(strict(schema))


@pytest.mark.parametrize("kustomization", KUSTOMIZATIONS)
def test_the_rayservice_fits_the_crd(kustomization: str, crd_validator: jsonschema.Draft202012Validator) -> None:
    assert [error.message for error in crd_validator.iter_errors(only(load(kustomization), "RayService"))] == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("spec", "rayClusterConfig", "workerGroupSpecs", 0, "minReplica"), 1),
        (("spec", "rayClusterConfig", "workerGroupSpecs", 0, "minReplicas"), "two"),
        (("spec", "rayClusterConfig", "autoscalerOptions", "version"), "v3"),
        (("spec", "serveConfigv2"), ""),
    ],
)
def test_the_crd_rejects_wrong_rayservices(
    path: tuple[str | int, ...], value: object, crd_validator: jsonschema.Draft202012Validator
) -> None:
    service: Any = only(load("base"), "RayService")
    node = service
    for part in path[:-1]:
        node = node[part]
    node[path[-1]] = value
    assert not crd_validator.is_valid(service)


def strict(schema: Any) -> Any:
    """OpenAPI v3 as the API server reads it -> JSON Schema that rejects unknown fields; int-or-string and nullable kept."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    skipped = {"properties", "description", "default", "enum", "required"}
    out = {key: schema[key] for key in skipped & schema.keys()}
    out |= {key: strict(value) for key, value in schema.items() if key not in skipped and not key.startswith("x-")}
    properties = schema.get("properties")
    if properties is not None:
        out["properties"] = {name: strict(value) for name, value in properties.items()}
        known_open = schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in schema
        # `metadata: {type: object}` has no properties in a CRD: the API server knows them.
        if properties and not known_open:
            out["additionalProperties"] = False
    if schema.get("nullable") and isinstance(schema.get("type"), str):
        out["type"] = [schema["type"], "null"]
    return out
