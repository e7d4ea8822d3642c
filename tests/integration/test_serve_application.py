"""The whole application on Ray Serve with exact models: HTTP in, leases, gRPC, and replicas that die.

One Ray for the module. Every text is compared with what the target alone writes in this process.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest

from hedgespec.assembly.model_sources import load_tokenizer, open_target
from hedgespec.config import AppArgs, DrafterConfig, SpeculationConfig, StoreConfig, TargetConfig
from hedgespec.engine.local import LocalFeatureTransport
from hedgespec.types import EMPTY_DRAFT, SamplingParams, SessionSpec
from tests.ray_cluster import ServedApp, served

pytestmark = [
    # Ray leaves files and sockets to the garbage collector, in its own time
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
]

NUM_TARGETS, MAX_SESSIONS = 2, 3
PROMPT = "hello "
LONG = 300
TARGET = TargetConfig(model="tabular:3,delay_s=0.02", model_name="toy", max_sessions=MAX_SESSIONS, replicas=NUM_TARGETS)
ARGS = AppArgs(
    target=TARGET,
    drafters=(
        DrafterConfig(id="near", kind="tabular", model="tabular:1,closeness=0.8"),
        DrafterConfig(id="far", kind="tabular", model="tabular:2,closeness=0.1", group="others"),
        DrafterConfig(id="ngram", kind="ngram", group="others"),
    ),
    speculation=SpeculationConfig(draft_deadline_s=0.3),
    store=StoreConfig(url="memory://"),
)


@pytest.fixture(scope="module")
def app() -> Iterator[ServedApp]:
    with served(ARGS) as running:
        until(lambda: httpx.get(f"{running.url}/health", timeout=5.0).status_code == 200, 60.0)
        yield running


def until(condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.1)


def target_alone(sampling: SamplingParams, num_tokens: int) -> str:
    """Return the text that the target writes without any drafter, decoded in this process."""
    tokenizer = load_tokenizer(TARGET)
    target = open_target(TARGET.model_copy(update={"model": "tabular:3"}), LocalFeatureTransport())
    noise_seed = 0 if sampling.seed is None else sampling.seed % 2**64
    spec = SessionSpec("s", tokenizer.encode(PROMPT), np.zeros(0, np.int32), sampling, noise_seed, 5)

    async def decode() -> list[int]:
        await target.open(spec)
        return [int((await target.verify("s", i, EMPTY_DRAFT)).token_ids[-1]) for i in range(num_tokens)]

    return str(tokenizer.backend.decode(asyncio.run(decode())))


def body(**changes: object) -> dict[str, object]:
    return {"model": "toy", "prompt": PROMPT, "max_tokens": 60, "temperature": 0, **changes}


def complete(app: ServedApp, **changes: object) -> dict[str, object]:
    with app.client() as client:
        response = client.post("/v1/completions", json=body(hedgespec={"report": True}, **changes))
    assert response.status_code == 200, response.text
    content: dict[str, object] = response.json()
    return content


def text_of(content: dict[str, object]) -> str:
    return str(content["choices"][0]["text"])  # type: ignore[index]


def stream(app: ServedApp, after_chunks: int, action: Callable[[], None], **changes: object) -> str:
    """Stream a long answer, do something after so many chunks, and return the whole text."""
    text, num_chunks, has_acted = "", 0, False
    request = body(stream=True, max_tokens=LONG, **changes)
    with app.client() as client, client.stream("POST", "/v1/completions", json=request) as response:
        assert response.status_code == 200
        for line in response.iter_lines():
            if not line.startswith("data: ") or line == "data: [DONE]":
                continue
            event = json.loads(line.removeprefix("data: "))
            assert "error" not in event, event
            text += "".join(choice["text"] for choice in event["choices"])
            num_chunks += 1
            if num_chunks == after_chunks:
                action()
                has_acted = True
    assert has_acted, "the fault was never injected"
    return text


def metric(app: ServedApp, name: str, **labels: str) -> float:
    total = 0.0
    for line in httpx.get(f"{app.url}/metrics", timeout=10.0).text.splitlines():
        if line.startswith(name + "{") and all(f'{key}="{value}"' in line for key, value in labels.items()):
            total += float(line.rpartition(" ")[2])
    return total


def test_the_served_text_is_the_targets_own_for_every_drafter_and_without(app: ServedApp) -> None:
    """Greedy and seeded answers equal plain target decoding, with every drafter and with none."""
    expected = target_alone(SamplingParams(temperature=0.0), 60)
    for drafter in (None, "near", "far", "ngram", "none", "random"):
        choice = {} if drafter is None else {"drafter": drafter}
        with app.client() as client:
            response = client.post("/v1/completions", json=body(hedgespec={"report": True, **choice}))
        assert response.status_code == 200, response.text
        assert text_of(response.json()) == expected, drafter
    seeded = target_alone(SamplingParams(temperature=1.0, seed=7), 60)
    assert text_of(complete(app, temperature=1.0, seed=7)) == seeded


def test_every_configured_drafter_is_connected_and_proposes(app: ServedApp) -> None:
    until(lambda: {name for name in ("near", "far", "ngram") if drafted(app, name)} == {"near", "far", "ngram"})


def drafted(app: ServedApp, drafter: str) -> bool:
    with app.client() as client:
        response = client.post("/v1/completions", json=body(hedgespec={"report": True, "drafter": drafter}))
    return drafter in response.json()["hedgespec"]["rounds_per_drafter"]


def test_more_requests_than_leases_all_finish_and_give_their_leases_back(app: ServedApp) -> None:
    """12 answers through 6 slots, twice: a leaked lease would leave the second wave without slots."""
    expected = target_alone(SamplingParams(temperature=0.0), 60)
    for _ in range(2):
        with ThreadPoolExecutor(12) as pool:
            texts = list(pool.map(lambda _: text_of(complete(app)), range(2 * NUM_TARGETS * MAX_SESSIONS)))
        assert texts == [expected] * len(texts)


def test_clients_that_leave_free_their_leases(app: ServedApp) -> None:
    """Every slot is taken by an answer whose client goes away; right after, every slot can be used again."""

    def leave_early() -> None:
        request = body(stream=True, max_tokens=4000)
        with app.client() as client, client.stream("POST", "/v1/completions", json=request) as response:
            next(response.iter_lines())

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda _: leave_early(), range(NUM_TARGETS * MAX_SESSIONS)))
    started = time.monotonic()
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda _: complete(app), range(NUM_TARGETS * MAX_SESSIONS)))
    assert time.monotonic() - started < 20.0


@pytest.mark.parametrize("sampling", [{"temperature": 0}, {"temperature": 1.0, "seed": 5}], ids=["greedy", "seeded"])
def test_a_killed_drafter_changes_nothing_and_comes_back(app: ServedApp, sampling: dict[str, object]) -> None:
    """A drafter killed (SIGKILL) in the middle of an answer costs neither text nor error; the restarted replica
    proposes again."""
    expected = target_alone(SamplingParams(**sampling), LONG)  # type: ignore[arg-type]
    until(lambda: drafted(app, "near"))

    def kill() -> None:
        (pid,) = app.pids("Drafter-near")
        os.kill(pid, signal.SIGKILL)

    assert stream(app, 5, kill, **sampling) == expected
    until(lambda: drafted(app, "near"), 60.0)


def test_a_frozen_drafter_changes_nothing_and_comes_back(app: ServedApp) -> None:
    """A frozen drafter (SIGSTOP) misses its draft deadlines and the answer goes on; after SIGCONT it is used again."""
    expected = target_alone(SamplingParams(temperature=0.0), LONG)
    until(lambda: drafted(app, "near"))
    (pid,) = app.pids("Drafter-near")
    try:
        assert stream(app, 5, lambda: os.kill(pid, signal.SIGSTOP)) == expected
    finally:
        os.kill(pid, signal.SIGCONT)
    until(lambda: drafted(app, "near"), 60.0)


# frozen first: a replica that starts again would be the busiest process
@pytest.mark.parametrize("how", [signal.SIGSTOP, signal.SIGKILL], ids=["frozen", "killed"])
def test_an_answer_moves_to_the_other_target_when_its_own_dies(app: ServedApp, how: signal.Signals) -> None:
    """Exactly one of two targets dies or hangs: the answer continues elsewhere with the same text, no token twice."""
    expected = target_alone(SamplingParams(temperature=1.0, seed=9), LONG)
    until(lambda: len(app.pids("Target")) == NUM_TARGETS, 60.0)
    before = metric(app, "hedgespec_migrations_total")
    hit: list[int] = []

    def strike() -> None:
        hit.append(busiest(app.pids("Target")))
        os.kill(hit[0], how)

    try:
        assert stream(app, 5, strike, temperature=1.0, seed=9) == expected
        assert metric(app, "hedgespec_migrations_total") == before + 1
    finally:
        if how is signal.SIGSTOP:
            os.kill(hit[0], signal.SIGCONT)
    assert text_of(complete(app)) == target_alone(SamplingParams(temperature=0.0), 60)


def busiest(pids: list[int]) -> int:
    """The process that used most CPU within a moment: the one that serves the only answer there is."""

    def ticks(pid: int) -> int:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    before = {pid: ticks(pid) for pid in pids}
    threading.Event().wait(0.5)
    return max(pids, key=lambda pid: ticks(pid) - before[pid])
