"""Start a private Ray on this machine for one command or one test module, and end it afterwards.

It listens on loopback only and has its own token and temporary folder. Other Ray instances on the machine are left alone.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog

from hedgespec.errors import HedgeSpecError

log = structlog.get_logger(__name__)

LOOPBACK = "127.0.0.1"
START_ATTEMPTS = 2
OBJECT_STORE_BYTES = 100 << 20
MAX_TEMP_ROOT_LENGTH = 24
"""Ray puts sockets with long names below its folder, and a socket's path may have 107 bytes."""

ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",  # one event loop per replica: 0.39 -> 0.24 ms per message
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # replicas without a GPU keep the variables as they are
    "RAY_DISABLE_FAILURE_SIGNAL_HANDLER": "1",  # it aborts on SIGTERM, without any clean-up
    "RAY_gcs_server_port_wait_time_s": "120",  # a busy machine has taken longer than Ray's own 30 s
    "RAY_worker_niceness": "0",  # of 15, so that the server starved beside any other busy program
    "OMP_NUM_THREADS": "1",
    "GRPC_VERBOSITY": "ERROR",
}


@contextmanager
def local_ray(num_cpus: int | None = None) -> Iterator[None]:
    """Start Ray, and end every process of it on leaving. Raises HedgeSpecError when it does not start.

    This sets environment variables, which its processes inherit.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if "RAY_AUTH_MODE" not in os.environ:
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    import ray
    from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]  # compiled, no stubs

    # Ray reads the variables once, at import, which may have been earlier
    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()
    folder = _started(num_cpus or os.cpu_count())
    try:
        yield
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


def _started(num_cpus: int | None, attempts: int = START_ATTEMPTS) -> Path:
    """Start Ray and return its temporary folder; a start that fails is tried again, because nodes sometimes time out."""
    import ray

    folder = make_temp_folder()
    try:
        ray.init(
            address="local",
            num_cpus=num_cpus,
            include_dashboard=False,
            object_store_memory=OBJECT_STORE_BYTES,
            log_to_driver=False,
            logging_level="ERROR",
            _node_ip_address=LOOPBACK,
            _temp_dir=str(folder),
        )
        return folder
    except Exception as error:  # Ray raises Exception itself here
        ray.shutdown()
        end_processes_of(folder)
        shutil.rmtree(folder, ignore_errors=True)
        if attempts == 1:
            raise HedgeSpecError(
                f"Ray does not start on this machine, in {START_ATTEMPTS} attempts: {error}"
            ) from error
        log.warning("ray_not_started", error=type(error).__name__)
    return _started(num_cpus, attempts - 1)


def end_processes_of(folder: Path) -> None:
    """Kill the processes that a failed start left behind: those that name its temporary folder, which is theirs alone."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if int(process.name) != os.getpid() and str(folder).encode() in (process / "cmdline").read_bytes():
                os.kill(int(process.name), signal.SIGKILL)
        except OSError:  # the process has ended
            continue


def make_temp_folder() -> Path:
    """Make a temporary folder with a path that is short enough for Ray's sockets."""
    root = tempfile.gettempdir()
    if len(root) > MAX_TEMP_ROOT_LENGTH:
        root = "/tmp"
    return Path(tempfile.mkdtemp(prefix="hs-ray-", dir=root))
