"""A sampling parameter is one class and one registration: request bodies, wire, target and drafters follow from it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch

from hedgespec.api.app import create_app
from hedgespec.bench.http_generator import sampling_fields
from hedgespec.catalogue import SAMPLING_PARAMETERS
from hedgespec.config import LimitsConfig
from hedgespec.errors import RequestError
from hedgespec.models.tabular import TabularDrafter, TabularModel, TabularTarget
from hedgespec.observability.metrics import Metrics
from hedgespec.rpc.convert import sessions
from hedgespec.rpc.v1 import replica_pb2 as pb
from hedgespec.sampling.parameter import parameters, plan, value_of
from hedgespec.speculative.acceptance import accept
from hedgespec.speculative.device_sampling import SHAPED, can_shape
from hedgespec.speculative.verification import VerifyContext
from hedgespec.tenancy.tenants import Tenants
from hedgespec.types import EMPTY_DRAFT, DraftRequest, SamplingParams, SessionSpec
from tests.scripted_generator import ScriptedGenerator, byte_tokenizer

PROMPT = np.array([1, 2, 3], np.int32)
MODEL = TabularModel(vocab_size=8, seed=3)
DRAFTER = TabularModel(vocab_size=8, seed=4)


@pytest.fixture
def min_p(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Install a package whose entry point is `tests.toy_min_p`; nothing of HedgeSpec is edited."""
    metadata = tmp_path / "toy_min_p-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-min-p\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[hedgespec.sampling]\nmin_p = tests.toy_min_p:MinP\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    _forget_registered()
    yield
    monkeypatch.undo()
    _forget_registered()


def _forget_registered() -> None:
    """A process reads its registries once; here they change while it runs."""
    vars(SAMPLING_PARAMETERS).pop("_references", None)
    parameters.cache_clear()
    plan.cache_clear()


async def post(**body: Any) -> tuple[httpx.Response, list[SamplingParams]]:
    """Send a request to the API; the sampling parameters of what the router would have run come with the response."""
    generator = ScriptedGenerator()
    app = create_app(generator, byte_tokenizer(), Tenants(None), Metrics("m", ()), LimitsConfig(), "m", version="1")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        response = await client.post("/v1/completions", json={"model": "m", "prompt": "hi", **body})
    return response, [request.sampling for request in generator.requests]


def over_the_wire(sampling: SamplingParams) -> SessionSpec:
    message = pb.Open()
    spec = SessionSpec("s", PROMPT, PROMPT[:0], sampling, noise_seed=7, max_draft_tokens=3, num_target_top=8)
    sessions.write_open(message, spec)
    return sessions.read_open("s", pb.Open.FromString(message.SerializeToString()))


def kept(probs: np.ndarray, min_p: float) -> dict[int, float]:
    """Token -> probability, as the parameter is documented."""
    left = np.where(probs < min_p * probs.max(), 0.0, probs)
    return {int(token): float(left[token] / left.sum()) for token in np.flatnonzero(left)}


@pytest.mark.usefixtures("min_p")
async def test_a_registered_parameter_works_from_the_body_to_the_distributions_of_target_and_drafter() -> None:
    response, (sampling,) = await post(min_p=0.3, temperature=1.5)
    assert response.status_code == 200
    spec = over_the_wire(sampling)
    assert spec.sampling.others == (("min_p", 0.3),)
    target, drafter = TabularTarget(MODEL), TabularDrafter("d", DRAFTER)
    await target.open(spec)
    await drafter.open(spec)
    tree = await drafter.draft(DraftRequest("s", 0, 1))
    verdict = await target.verify("s", 0, tree)
    for rows, model in ((verdict.target_top, MODEL), (tree.draft_probs, DRAFTER)):
        assert rows is not None
        ids, probs = rows.row(0)
        expected = kept(model.probs(PROMPT.tolist()) ** (1 / 1.5), 0.3)
        assert dict(zip(ids.tolist(), probs.tolist(), strict=True)) == pytest.approx(expected)
        assert len(expected) < 8


@pytest.mark.usefixtures("min_p")
async def test_sessions_that_differ_in_a_registered_parameter_alone_are_verified_in_one_batch() -> None:
    both = [(await post(min_p=value))[1][0] for value in (0.0, 0.3)]
    contexts = [VerifyContext(sampling, 7, 0, num_target_top=8) for sampling in both]
    probs = MODEL.probs(PROMPT.tolist())
    logits = torch.from_numpy(probs).log().expand(2, -1)
    plain, cut = (verdict.target_top for verdict in accept([EMPTY_DRAFT] * 2, logits, contexts))
    assert plain is not None
    assert cut is not None
    assert set(plain.ids.tolist()) == set(kept(probs, 0.0))
    assert set(cut.ids.tolist()) == set(kept(probs, 0.3)) < set(plain.ids.tolist())


@pytest.mark.usefixtures("min_p")
@pytest.mark.parametrize(("value", "code"), [(-0.1, "invalid_value"), (1.5, "invalid_value"), ("x", "invalid_type")])
async def test_a_value_that_a_registered_parameter_does_not_accept_is_a_400_and_refused_on_the_wire(
    value: Any, code: str
) -> None:
    response, _ = await post(min_p=value)
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["param"]) == (400, code, "min_p")
    with pytest.raises(RequestError, match="min_p"):
        over_the_wire(SamplingParams(others=(("min_p", value),)))


@pytest.mark.usefixtures("min_p")
async def test_a_neutral_value_is_as_good_as_none_and_does_not_travel() -> None:
    for body in ({"min_p": 0}, {"min_p": None}, {}):
        response, (sampling,) = await post(**body)
        assert response.status_code == 200
        assert over_the_wire(sampling).sampling == SamplingParams(max_tokens=254)


@pytest.mark.usefixtures("min_p")
async def test_benchmarks_send_a_registered_parameter_to_a_server() -> None:
    wanted = SamplingParams(others=(("min_p", 0.5),), logit_bias=((3, 1.5),), max_tokens=2)
    _, (sampling,) = await post(**sampling_fields(wanted))
    assert (sampling.others, sampling.logit_bias) == ((("min_p", 0.5),), ((3, 1.5),))


@pytest.mark.parametrize("value", ["nonsense", "[" * 100_000, "NaN"])
def test_what_a_replica_does_not_know_or_understand_is_refused(value: str, min_p: None) -> None:
    for name, match in (("min_p", "not allowed"), ("max_p", "others on the wire")):
        message = pb.Open()
        sessions.write_open(message, over_the_wire(SamplingParams()))
        message.sampling.others[name] = value
        with pytest.raises(RequestError, match=match):
            sessions.read_open("s", message)


def test_neutral_values_are_the_defaults_of_the_noun() -> None:
    assert plan(SamplingParams()).active == ()
    for parameter in parameters():
        assert value_of(SamplingParams(), parameter) == parameter.neutral


@pytest.mark.usefixtures("min_p")
def test_drafts_with_any_other_parameter_take_the_plain_path() -> None:
    """Compiled chains and CUDA graphs know three; a new one must never be ignored by them."""
    assert can_shape(SamplingParams(temperature=0.5, top_k=3, top_p=0.9))
    examples = {"logit_bias": ((1, 1.0),), "min_p": 0.5}
    for parameter in parameters():
        if parameter.name not in SHAPED:
            value = examples.get(parameter.name, 1.5)
            one = ((parameter.name, value),)
            params = SamplingParams(others=one) if parameter.name == "min_p" else SamplingParams(**dict(one))
            assert not can_shape(params)


def test_the_router_reads_every_parameter_without_torch() -> None:
    code = (
        "import json, sys\nfrom hedgespec.sampling.parameter import parameters\n"
        "print(json.dumps([len(parameters()), 'torch' in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(done.stdout) == [len(SAMPLING_PARAMETERS.names()), False]
