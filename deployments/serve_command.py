"""The command `hedgespec serve`: Ray, Serve and the application on this machine, until Ctrl-C."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Annotated, Any

import typer
from rich.console import Console

from deployments.commands.inputs import changed
from deployments.commands.model_choice import chosen_args
from deployments.commands.option_types import ConfigInsteadOfModel, ModelName
from deployments.local_ray import LOOPBACK, local_ray
from hedgespec.assembly.model_sources import ZOO_NAME, check_sources, load_tokenizer, located, served_name
from hedgespec.config import AppArgs, Device
from hedgespec.errors import ConfigError

APP_NAME = "hedgespec"
START_TIMEOUT_S = 600.0
POLL_S = 0.25
EXIT_CONFIG = 2

console = Console(stderr=True)


def serve(
    model: ModelName = None,
    config: ConfigInsteadOfModel = None,
    redis: Annotated[str | None, typer.Option(help="Keep preferences in this Redis, redis://HOST:PORT/DB.")] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8000,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = LOOPBACK,
    device: Annotated[Device | None, typer.Option(help="Where the models run (default: as configured).")] = None,
) -> None:
    """Start the OpenAI-compatible server on this machine.

    By default it serves SmolLM2-135M-Instruct, which is fetched once, or the embedded zoo where it cannot be had.
    """
    started = time.monotonic()
    check_port(host, port)
    args = adjusted(chosen_args(config, model, device or "cpu"), redis, device)
    if problems := check_sources(args):
        raise ConfigError("\n".join(problems))
    with console.status("Preparing the target (a GGUF file is converted once)"):
        args = located(args)
    stop = StopRequest()
    # twice: `ray.init` puts its own handler for SIGTERM in place of ours
    with stop_signals(stop), console.status("Starting Ray") as status, local_ray(), stop_signals(stop):
        drafters = ", ".join(d.id for d in args.drafters) or "none"
        console.print(f"Serving [bold]{served_name(args.target)}[/] with drafters: {drafters}", highlight=False)
        status.update("Starting Serve")
        start_application(args, host, port)
        if not wait_until_running(stop, status):
            return
        status.stop()
        announce(args, host, port, time.monotonic() - started)
        while not stop.is_set:
            time.sleep(POLL_S)
        console.print("Stopping ...")


def adjusted(args: AppArgs, redis: str | None, device: Device | None) -> AppArgs:
    """Return the configuration changed by the command line's options."""
    drafters = args.drafters
    if redis is not None:
        args = changed(args, "store", url=redis)
    if device is not None:
        args = changed(args, "target", device=device)
        drafters = tuple(d if d.model is None else d.model_copy(update={"device": device}) for d in drafters)
    return args.model_copy(update={"drafters": drafters})


def check_port(host: str, port: int) -> None:
    """Raise ConfigError when the port cannot be listened on."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ConfigError(f"port: cannot listen on {host}:{port}: {os.strerror(error.errno or 0)}") from error


def start_application(args: AppArgs, host: str, port: int) -> None:
    """Deploy the application and return at once; its replicas start in parallel."""
    from ray import serve as ray_serve

    from deployments.app import build

    logging.getLogger("ray.serve").setLevel(logging.WARNING)  # this command prints the progress itself
    ray_serve.start(http_options={"host": host, "port": port}, logging_config={"log_level": "WARNING"})
    application = ray_serve.RunTarget(build(args), name=APP_NAME, route_prefix="/")
    ray_serve.run_many([application], wait_for_ingress_deployment_creation=False, wait_for_applications_running=False)


def wait_until_running(stop: StopRequest, status: Any) -> bool:
    """Print every deployment that becomes ready; return False when a signal stopped the wait.

    Raises ConfigError with Serve's message when the application cannot start.
    """
    from ray import serve as ray_serve

    ready: set[str] = set()
    deadline = time.monotonic() + START_TIMEOUT_S
    while not stop.is_set:
        time.sleep(POLL_S)
        application = ray_serve.status().applications.get(APP_NAME)
        if application is None:
            continue
        for name, deployment in application.deployments.items():
            if deployment.status == "HEALTHY" and name not in ready:
                ready.add(name)
                console.print(f"  [green]ready[/] {name}")
        status.update(f"Loading models: {len(ready)} of {len(application.deployments)} deployments are ready")
        if application.status == "RUNNING":
            return True
        if application.status in ("DEPLOY_FAILED", "UNHEALTHY"):
            raise ConfigError(_failure(application.message, application.deployments))
        if time.monotonic() > deadline:
            raise ConfigError(f"The application is not ready after {START_TIMEOUT_S:g} s: {application.message}")
    return False


def announce(args: AppArgs, host: str, port: int, seconds: float) -> None:
    """Print the address and a request to paste, as plain text that can be copied from any terminal."""
    shown = LOOPBACK if host in ("0.0.0.0", "::") else host
    console.print(f"\nReady in {seconds:.0f} s at http://{shown}:{port} - try:\n", highlight=False)
    console.print(example(args, f"http://{shown}:{port}"), highlight=False, markup=False, soft_wrap=True)
    console.print("\nCtrl-C stops everything that was started here.", highlight=False)


def example(args: AppArgs, url: str) -> str:
    """Return a command that asks the server something that its model can do: a chat, unless it has no template for one."""
    name = served_name(args.target)
    body: dict[str, object]
    if name != ZOO_NAME and load_tokenizer(args.target).chat_template is not None:
        path = "/v1/chat/completions"
        body = {"model": name, "messages": [{"role": "user", "content": "What is the capital of France?"}]}
    else:
        path, body = "/v1/completions", {"model": name, "prompt": "def fibonacci(n):", "max_tokens": 64}
    key = '-H "Authorization: Bearer $HEDGESPEC_API_KEY" ' if args.keys_file is not None else ""
    return f"curl {url}{path} {key}-H 'Content-Type: application/json' -d '{json.dumps(body)}'"


class StopRequest:
    """A flag that a signal handler can set.

    A `threading.Event` is not safe there: its lock is not re-entrant, so a second signal during the first one's handler, or
    during a wait, would block this process for good.
    """

    is_set = False


@contextmanager
def stop_signals(stop: StopRequest) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM set `stop`, so that the clean-up runs to its end."""

    def on_signal(_: int, __: FrameType | None) -> None:
        stop.is_set = True

    previous = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _failure(message: str, deployments: Mapping[str, Any]) -> str:
    """Return an error message from Serve's, which hold tracebacks whose last lines name the cause."""
    causes = [d.message for d in deployments.values() if d.status in ("DEPLOY_FAILED", "UNHEALTHY") and d.message]
    lines = [line for line in (causes or [message])[0].strip().splitlines() if line.strip()]
    return "The application cannot start: " + " | ".join(lines[-3:])
