"""`hedgespec serve` and `config check`: every mistake is named before anything starts, with exit code 2."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from deployments import cli
from deployments.serve_command import StopRequest, adjusted, stop_signals
from hedgespec.assembly.model_sources import load_tokenizer
from hedgespec.config import AppArgs, DrafterConfig, TargetConfig
from hedgespec.errors import ConfigError
from hedgespec.models.tabular_source import TabularSource

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command line as the shell would: -> (exit code, what it wrote)."""

    def run_command(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["hedgespec", *arguments])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        captured = capsys.readouterr()
        return int(caught.value.code or 0), captured.out + captured.err

    return run_command


@pytest.fixture
def config(tmp_path: Path) -> Callable[[str], str]:
    def write(text: str) -> str:
        path = tmp_path / "config.yaml"
        path.write_text(text)
        return str(path)

    return write


def test_config_check_accepts_a_good_file(run: Run, config: Callable[[str], str]) -> None:
    code, output = run("config", "check", config("target: {model: 'tabular:1'}\ndrafters: [{id: n, kind: ngram}]\n"))
    assert code == 0
    assert "fine" in output


def test_every_config_error_is_listed_at_once_with_its_path(run: Run, config: Callable[[str], str]) -> None:
    code, output = run(
        "config",
        "check",
        config(
            "target: {max_sessions: 0, gpu: 1}\ndrafters: [{id: A B, kind: ngram}]\nspeculation: {warm_rounds: -1}\n"
        ),
    )
    lines = [line for line in output.splitlines() if line.startswith("config error: ")]
    assert code == 2
    named = [line.removeprefix("config error: ").partition(":")[0] for line in lines]
    assert sorted(named) == ["drafters.0.id", "speculation.warm_rounds", "target.gpu", "target.max_sessions"]
    assert "Traceback" not in output


def test_models_that_are_not_there_are_all_named(run: Run, config: Callable[[str], str]) -> None:
    text = "target: {model: /no/such}\ndrafters: [{id: a, kind: eagle3, model: /nor/this}]\n"
    code, output = run("config", "check", config(text))
    assert code == 2
    assert "config error: target.model: /no/such is not a folder" in output
    assert "config error: drafters.0.model: /nor/this is not a folder" in output


def test_a_port_in_use_is_an_error_before_anything_starts(run: Run, config: Callable[[str], str]) -> None:
    path = config("target: {model: 'tabular:1'}\n")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, output = run("serve", "--config", path, "--port", str(port))
    assert code == 2
    assert f"config error: port: cannot listen on 127.0.0.1:{port}" in output


def test_a_missing_config_file_is_an_error(run: Run, tmp_path: Path) -> None:
    code, output = run("serve", "--config", str(tmp_path / "none.yaml"))
    assert code == 2
    assert "config error: cannot read" in output


def test_options_win_over_the_configuration() -> None:
    """--device moves models but not a drafter without one."""
    own = AppArgs(
        drafters=(DrafterConfig(id="mine", kind="eagle3", model="/m/mine"), DrafterConfig(id="ngram", kind="ngram"))
    )
    args = adjusted(own, "redis://h:1/0", "cuda")
    assert args.store_url == "redis://h:1/0"
    assert args.target.device == "cuda"
    assert [(d.id, d.device) for d in args.drafters] == [("mine", "cuda"), ("ngram", "cpu")]


def test_both_stop_signals_are_noted_and_the_old_handlers_come_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    for number in (signal.SIGINT, signal.SIGTERM):
        stop = StopRequest()
        with stop_signals(stop):
            assert not stop.is_set
            signal.raise_signal(number)
            assert stop.is_set
    assert signal.getsignal(signal.SIGTERM) is before


def test_signals_that_interrupt_each_other_do_not_block_the_command() -> None:
    """`make` passes on a SIGTERM that the command had already: the second may come in the handler of the first."""
    program = (
        "import os, signal, threading, time\n"
        "from deployments.serve_command import POLL_S, StopRequest, stop_signals\n"
        "stop, me = StopRequest(), os.getpid()\n"
        "with stop_signals(stop):\n"
        "    def storm():\n"
        "        for _ in range(20_000): os.kill(me, signal.SIGTERM); os.kill(me, signal.SIGINT)\n"
        "    sender = threading.Thread(target=storm, daemon=True); sender.start()\n"
        "    while sender.is_alive() or not stop.is_set: time.sleep(0)\n"
        "print('stopped')\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert ended.stdout == "stopped\n", ended.stderr


@pytest.mark.parametrize("text", ["tabular:x", "tabular:1,closeness=2", "tabular:1,delay=1", "tabular:1,delay_s=nan"])
def test_a_malformed_tabular_model_is_a_config_error(text: str) -> None:
    with pytest.raises(ConfigError):
        TabularSource.parse(text)


def test_the_tabular_tokenizer_round_trips_its_alphabet() -> None:
    tokenizer = load_tokenizer(TargetConfig(model="tabular:1"))
    text = "hello, world!"
    assert tokenizer.backend.decode(tokenizer.encode(text).tolist()) == text
