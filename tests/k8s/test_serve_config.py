"""The configuration that Kubernetes would send to Ray Serve is accepted by Ray's schema, by our configuration and by
our builder."""

from __future__ import annotations

import pytest
from pydantic import ValidationError
from ray import serve
from ray.serve.schema import ServeDeploySchema

from deployments.app import build
from hedgespec.config import AppArgs
from tests.k8s import policies
from tests.k8s.manifests import KUSTOMIZATIONS, app_args, load, serve_config


@pytest.fixture(params=KUSTOMIZATIONS)
def kustomization(request: pytest.FixtureRequest) -> str:
    return request.param


def test_ray_accepts_the_serve_config(kustomization: str) -> None:
    config = serve_config(load(kustomization))
    schema = ServeDeploySchema.model_validate(config)
    (application,) = schema.applications
    assert application.import_path == f"{build.__module__}:{build.__name__}"
    # Ray ignores fields that it does not know, so that a misspelt one would only be missed here.
    assert config.keys() <= ServeDeploySchema.model_fields.keys()
    assert config["applications"][0].keys() <= type(application).model_fields.keys()
    assert config["http_options"].keys() <= type(schema.http_options).model_fields.keys()


def test_the_builder_makes_one_deployment_per_model_and_the_router(kustomization: str) -> None:
    """`build` annotates its argument, so Serve validates `args` exactly like this before it calls it."""
    args = AppArgs.model_validate(app_args(load(kustomization)))
    deployments = deployments_of(build(args))
    assert len(deployments) == 2 + len(args.drafters)


def test_an_unknown_key_in_args_is_refused() -> None:
    args = app_args(load("base"))
    args["target"]["gpu"] = 1
    with pytest.raises(ValidationError, match=r"target\.gpu"):
        AppArgs.model_validate(args)


def test_every_replica_is_placed_by_label_and_takes_the_gpu_of_its_pod(kustomization: str) -> None:
    """Ray really gets what the manifests promise: the selector of the group, one GPU on CUDA and none on CPU."""
    args = AppArgs.model_validate(app_args(load(kustomization)))
    placed = {}
    for deployment in deployments_of(build(args)).values():
        options = deployment.ray_actor_options or {}
        selector = options.get("label_selector", {})
        assert set(selector) == {policies.NODE_LABEL}, deployment.name
        placed[selector[policies.NODE_LABEL]] = options.get("num_gpus") or 0
    expected = {model.node_label: float(model.device == "cuda") for model in (args.target, *args.drafters)}
    assert placed == expected | {args.router.node_label: 0}


def test_graceful_shutdown_fits_between_requests_and_the_pods_grace_period(kustomization: str) -> None:
    """Router and target end no answer early. A drafter may go at once: that costs speed, and its leases never drain."""
    docs = load(kustomization)
    args = AppArgs.model_validate(app_args(docs))
    graceful_s = {
        name: deployment._deployment_config.graceful_shutdown_timeout_s
        for name, deployment in deployments_of(build(args)).items()
        if deployment.ray_actor_options["label_selector"][policies.NODE_LABEL] in {"router", "target"}
    }
    assert len(graceful_s) == 2
    assert policies.deadlines_are_nested(docs, graceful_s) == []


def deployments_of(application: serve.Application) -> dict[str, serve.Deployment]:
    """Every deployment of a bound application: the root and whatever is bound into its arguments."""
    found: dict[str, serve.Deployment] = {}

    def visit(value: object) -> None:
        if isinstance(value, serve.Application):
            bound = value._bound_deployment
            found[bound.name] = bound
            visit([*bound.init_args, *bound.init_kwargs.values()])
        elif isinstance(value, dict):
            visit(list(value.values()))
        elif isinstance(value, list | tuple):
            for part in value:
                visit(part)

    visit(application)
    return found
