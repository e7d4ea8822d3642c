"""The access lists of both Redis servers on a real one, configured by the manifests' own init script and files."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from hedgespec.config import StoreConfig
from hedgespec.store.record import DrafterTotals, PreferenceKey, PreferenceRecord
from hedgespec.store.redis_store import RedisStore
from tests.k8s.manifests import load, only

PASSWORD = "0123456789abcdef"
KEY = PreferenceKey("acme", "", "hedgespec-zoo", "greedy", "rounds", 5)
RECORD = PreferenceRecord().plus(0, {"python": DrafterTotals(wins=1.0, passes=40.0, tokens=100, count=1)})


@contextmanager
def redis_from_manifests(name: str, folder: Path) -> Iterator[int]:
    """Run the StatefulSet `name` here: its init container's script, then its redis.conf. Yields the port."""
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed")
    docs = load("base")
    pod = only(docs, "StatefulSet", name)["spec"]["template"]["spec"]
    config = only(docs, "ConfigMap", name)["data"]
    for path, text in {"etc/redis.conf": config["redis.conf"], "etc/users.acl": config["users.acl"]}.items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(local(text, folder))
    (folder / "run").mkdir()
    (folder / "password").write_text(PASSWORD + "\n")
    subprocess.run([local(word, folder) for word in pod["initContainers"][0]["command"]], check=True, timeout=10)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [local(word, folder) for word in pod["containers"][0]["command"]]
    server = subprocess.Popen([*command, "--port", str(port), "--bind", "127.0.0.1"], stdout=subprocess.DEVNULL)
    try:
        wait_for(port)
        yield port
    finally:
        server.terminate()
        server.wait(timeout=10)


def local(text: str, folder: Path) -> str:
    """Paths inside the container -> paths under `folder`."""
    for path, ours in {
        "/run/password/password": folder / "password",
        "/etc/redis": folder / "etc",
        "/run/redis": folder / "run",
        "/data": folder / "etc",
    }.items():
        text = text.replace(path, str(ours))
    return text


def wait_for(port: int) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise TimeoutError("redis-server did not start")


@pytest.mark.redis_server
async def test_the_learners_user_can_do_all_that_the_store_does(tmp_path: Path) -> None:
    """Save, load and fold work with nothing but the commands and keys on the list."""
    with redis_from_manifests("learner-redis", tmp_path) as port:
        config = StoreConfig(password_file=tmp_path / "password", operation_timeout_s=5.0)
        store = RedisStore(f"redis://hedgespec@127.0.0.1:{port}/0", config)
        try:
            await store.save(KEY, "router-1", RECORD)
            await store.save(KEY, "router-2", RECORD)
            assert set(await store.load(KEY)) == {"router-1", "router-2"}
            await store.fold(KEY, {"router-1": 1}, 0)
            assert "router-2" in await store.load(KEY)
        finally:
            await store.close()


@pytest.mark.redis_server
def test_the_learners_user_can_do_nothing_else(tmp_path: Path) -> None:
    """A stolen router password neither deletes other data nor reconfigures the server; without one nothing works."""
    with redis_from_manifests("learner-redis", tmp_path) as port:
        client = redis.Redis(port=port, username="hedgespec", password=PASSWORD)
        key = str(KEY)
        refused = [
            ("FLUSHALL",),
            ("CONFIG", "GET", "*"),
            ("KEYS", "*"),
            ("EVAL", "return 1", "0"),
            ("DEL", key),
            ("GET", key),
        ]
        refused += [
            ("HGETALL", "hedgespec:other"),
            ("SHUTDOWN",),
            ("ACL", "LIST"),
            ("REPLICAOF", "NO", "ONE"),
            ("CLIENT", "LIST"),
        ]
        for command in refused:
            with pytest.raises(redis.exceptions.NoPermissionError):
                client.execute_command(*command)
        client.close()
        assert is_refused(port, key)
        assert is_refused(port, key, username="hedgespec", password="guess")


@pytest.mark.redis_server
def test_ray_can_keep_its_state_in_its_own_redis(tmp_path: Path) -> None:
    """Ray writes hashes of its own naming; without the password no client can, and no client can wipe them at once."""
    with redis_from_manifests("gcs-redis", tmp_path) as port:
        client = redis.Redis(port=port, password=PASSWORD)
        client.hset("RAYcluster@JOB", "1", "state")
        assert client.hscan("RAYcluster@JOB")[1] == {b"1": b"state"}
        client.unlink("RAYcluster@JOB")
        with pytest.raises(redis.exceptions.NoPermissionError):
            client.flushall()
        client.close()
        assert is_refused(port, "RAYcluster@JOB")


def is_refused(port: int, key: str, **login: str) -> bool:
    """Return whether this login cannot even read. No retries: redis-py backs off for seconds otherwise."""
    client = redis.Redis(port=port, retry=Retry(NoBackoff(), 0), **login)
    try:
        client.hgetall(key)
    except redis.exceptions.AuthenticationError:
        return True
    finally:
        client.close()
    return False
