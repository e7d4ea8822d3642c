"""The kustomizations name every file beside them, and kustomize renders what these tests read."""

from __future__ import annotations

import shutil
import subprocess

import pytest
import yaml

from tests.k8s.manifests import K8S, KUSTOMIZATIONS, listed_files, load

FOLDERS = sorted(path.parent for path in K8S.rglob("kustomization.yaml"))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: str(folder.relative_to(K8S)))
def test_every_manifest_is_listed_in_its_kustomization(folder) -> None:
    """A file that nothing lists would be reviewed and never applied."""
    present = {path.resolve() for path in folder.rglob("*") if path.suffix in {".yaml", ".conf", ".acl"}}
    nested = {path for other in FOLDERS if other != folder for path in other.rglob("*") if folder in other.parents}
    assert present - nested - {(folder / "kustomization.yaml").resolve()} <= listed_files(folder)


@pytest.mark.parametrize("kustomization", KUSTOMIZATIONS)
def test_every_listed_file_exists(kustomization: str) -> None:
    assert all(path.exists() for path in listed_files(K8S / kustomization))


@pytest.mark.parametrize("kustomization", KUSTOMIZATIONS)
def test_kustomize_renders_what_the_tests_read(kustomization: str) -> None:
    """Our reader in manifests.py is checked against the real tool where there is one."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed")
    done = subprocess.run(
        ["kubectl", "kustomize", str(K8S / kustomization)], capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 0, done.stderr
    rendered = {identity(doc): doc for doc in yaml.safe_load_all(done.stdout)}
    ours = {identity(doc): doc for doc in load(kustomization)}
    assert rendered.keys() == ours.keys()
    for key, doc in ours.items():
        if doc["kind"] not in {"ConfigMap", "StatefulSet"}:  # their names carry kustomize's content hash
            assert rendered[key] == doc


def identity(doc: dict) -> tuple[str, str]:
    name = doc["metadata"]["name"]
    return doc["kind"], name.rsplit("-", 1)[0] if doc["kind"] == "ConfigMap" and len(name.split("-")) > 2 else name
