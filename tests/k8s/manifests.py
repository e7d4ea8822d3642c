"""Reads k8s/ the way kustomize would, as far as our kustomizations go: resources, config maps, JSON patches."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

K8S = Path(__file__).parents[2] / "k8s"
KUSTOMIZATIONS = ("base", "overlays/llama-8b")

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The C loader, where PyYAML has it: these files are read some hundred times."""

Doc = dict[str, Any]


@dataclass(frozen=True, slots=True)
class PodTemplate:
    """One kind of pod: its owner's name, the labels that it will have, its spec and (for Ray) its worker group."""

    name: str
    labels: dict[str, str]
    spec: Doc
    group: Doc | None = None

    @property
    def component(self) -> str:
        return self.labels.get("app.kubernetes.io/component", "")

    @property
    def containers(self) -> list[Doc]:
        return [*self.spec.get("initContainers", []), *self.spec["containers"]]


def load(kustomization: str) -> list[Doc]:
    """Every document of a kustomization, `base` or an overlay, patches applied."""
    return _load_folder(K8S / kustomization)


def listed_files(folder: Path) -> set[Path]:
    """Files and folders that a kustomization.yaml names, resolved."""
    kustomization = _read(folder / "kustomization.yaml")[0]
    names = [*kustomization.get("resources", []), *kustomization.get("components", [])]
    names += [patch["path"] for patch in kustomization.get("patches", []) if "path" in patch]
    for generator in [*kustomization.get("configMapGenerator", []), *kustomization.get("secretGenerator", [])]:
        names += [entry.split("=", 1)[-1] for entry in generator["files"]]
    return {(folder / name).resolve() for name in names}


def only(docs: list[Doc], kind: str, name: str | None = None) -> Doc:
    found = [doc for doc in docs if doc["kind"] == kind and (name is None or doc["metadata"]["name"] == name)]
    assert len(found) == 1, f"expected one {kind} {name or ''}, found {len(found)}"
    return found[0]


def cluster_config(docs: list[Doc]) -> Doc:
    return only(docs, "RayService")["spec"]["rayClusterConfig"]


def serve_config(docs: list[Doc]) -> Doc:
    return yaml.safe_load(only(docs, "RayService")["spec"]["serveConfigV2"])


def app_args(docs: list[Doc]) -> Doc:
    return serve_config(docs)["applications"][0]["args"]


def pod_templates(docs: list[Doc]) -> list[PodTemplate]:
    """Every pod that can exist: head, worker groups (with the labels KubeRay adds) and StatefulSets."""
    return list(_pod_templates(docs))


def _pod_templates(docs: list[Doc]) -> Iterator[PodTemplate]:
    for doc in docs:
        if doc["kind"] == "StatefulSet":
            template = doc["spec"]["template"]
            yield PodTemplate(doc["metadata"]["name"], template["metadata"]["labels"], template["spec"])
        if doc["kind"] == "RayService":
            cluster = doc["spec"]["rayClusterConfig"]
            groups = [("head", cluster["headGroupSpec"]), *((g["groupName"], g) for g in cluster["workerGroupSpecs"])]
            for name, group in groups:
                labels = group["template"]["metadata"]["labels"] | group["labels"] | {"ray.io/is-ray-node": "yes"}
                yield PodTemplate(name, labels, group["template"]["spec"], group)


def _load_folder(folder: Path) -> list[Doc]:
    kustomization = _read(folder / "kustomization.yaml")[0]
    docs: list[Doc] = []
    for name in kustomization.get("resources", []):
        path = folder / name
        docs += _load_folder(path) if path.is_dir() else _read(path)
    for name in kustomization.get("components", []):
        docs += _load_folder(folder / name)
    for generator in kustomization.get("configMapGenerator", []):
        docs.append(_config_map(folder, generator))
    for patch in kustomization.get("patches", []):
        operations = _read(folder / patch["path"])[0]
        target = patch["target"]
        _apply(only(docs, target["kind"], target["name"]), operations)
    for doc in docs:
        if "namespace" in kustomization and doc["kind"] != "Namespace":
            doc["metadata"]["namespace"] = kustomization["namespace"]
    return docs


def _config_map(folder: Path, generator: Doc) -> Doc:
    pairs = [entry.split("=", 1) if "=" in entry else (Path(entry).name, entry) for entry in generator["files"]]
    data = {key: (folder / path).read_text() for key, path in pairs}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": generator["name"]}, "data": data}


def _apply(doc: Doc, operations: list[Doc]) -> None:
    """JSON Patch (RFC 6902), the operations that our overlays use."""
    for operation in operations:
        *parents, last = (
            part.replace("~1", "/").replace("~0", "~") for part in operation["path"].strip("/").split("/")
        )
        node: Any = doc
        for part in parents:
            node = node[int(part)] if isinstance(node, list) else node[part]
        value = copy.deepcopy(operation.get("value"))
        match operation["op"], node:
            case "add", list():
                node.insert(len(node) if last == "-" else int(last), value)
            case "replace", list():
                node[int(last)] = value
            case "remove", list():
                del node[int(last)]
            case "add", dict():
                node[last] = value
            case "replace", dict():
                assert last in node, f"nothing to replace at {operation['path']}"
                node[last] = value
            case "remove", dict():
                del node[last]
            case unsupported:
                raise ValueError(f"unsupported patch {unsupported}")


def _read(path: Path) -> list[Any]:
    """All documents of a YAML file; aliases become copies, so that a test may change one place only."""
    return _without_aliases(list(yaml.load_all(path.read_text(), Loader=LOADER)))


def _without_aliases(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _without_aliases(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_without_aliases(value) for value in node]
    return node
