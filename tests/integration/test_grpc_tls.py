"""Both ends must show a certificate of the same authority when certificate files are set; everything else is refused."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from hedgespec.errors import ConfigError, ReplicaLost
from hedgespec.models.tabular import TabularModel, TabularTarget
from hedgespec.rpc.channel import TlsFiles
from hedgespec.rpc.client import RemoteTarget
from hedgespec.rpc.connection import ReplicaConnection
from hedgespec.rpc.server import ReplicaServicer, start_server
from hedgespec.types import Opened, SamplingParams, SessionSpec

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl command")


def make_certificate(folder: Path) -> TlsFiles:
    """An authority and one certificate for this machine, signed by it."""
    folder.mkdir()
    settings = folder / "settings"
    settings.write_text("subjectAltName = IP:127.0.0.1\n")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True, timeout=60)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=test authority", "-days", "2")
    openssl("req", *key, "-keyout", "own.key", "-out", "own.csr", "-subj", "/CN=replica")
    signing = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "settings")
    openssl("x509", "-req", "-in", "own.csr", "-out", "own.pem", *signing)
    return TlsFiles(folder / "own.pem", folder / "own.key", folder / "ca.pem")


@needs_openssl
async def test_only_a_peer_with_a_certificate_of_the_authority_gets_in(tmp_path: Path) -> None:
    """The right certificate opens a session; no certificate and another authority's are refused."""
    own, foreign = make_certificate(tmp_path / "own"), make_certificate(tmp_path / "foreign")
    server = await start_server(ReplicaServicer(TabularTarget(TabularModel())), tls=own)
    spec = SessionSpec("s", np.array([1], np.int32), np.zeros(0, np.int32), SamplingParams(), 0, 4)
    async with ReplicaConnection(server.address, own) as connection:
        assert await RemoteTarget(connection).open(spec) == Opened()
    for wrong in (None, foreign):
        with pytest.raises(ReplicaLost):
            await ReplicaConnection(server.address, wrong).connect(timeout_s=3.0)
    await server.stop()


def test_files_come_from_the_variables_that_ray_uses() -> None:
    """TLS is off unless asked for; asked for and incomplete is an error that names what is missing."""
    files = {"RAY_TLS_SERVER_CERT": "c.pem", "RAY_TLS_SERVER_KEY": "k.pem", "RAY_TLS_CA_CERT": "a.pem"}
    assert TlsFiles.from_environment({}) is None
    assert TlsFiles.from_environment({"RAY_USE_TLS": "0", **files}) is None
    assert TlsFiles.from_environment({"RAY_USE_TLS": "1", **files}) == TlsFiles(
        Path("c.pem"), Path("k.pem"), Path("a.pem")
    )
    with pytest.raises(ConfigError, match="RAY_TLS_CA_CERT"):
        TlsFiles.from_environment({"RAY_USE_TLS": "1", "RAY_TLS_SERVER_CERT": "c", "RAY_TLS_SERVER_KEY": "k"})
