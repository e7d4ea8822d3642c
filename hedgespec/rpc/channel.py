"""Both ends of the wire share these gRPC options, credentials and names of the service's two methods."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import grpc
import grpc.aio

from hedgespec.errors import ConfigError
from hedgespec.rpc.v1 import replica_pb2 as pb

MAX_MESSAGE_BYTES = 4 << 20
ROUNDS_METHOD = "/hedgespec.rpc.v1.Replica/Rounds"
PUSH_FEATURES_METHOD = "/hedgespec.rpc.v1.Replica/PushFeatures"
LEASE_METADATA_KEY = "hedgespec-lease"
"""Call metadata of `Rounds` that carries the Serve lease of the stream."""

SERVICE = pb.DESCRIPTOR.services_by_name["Replica"].full_name

_SIZE_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
)
# without keepalive a peer that is stopped or unreachable is noticed only by a deadline
_KEEPALIVE_OPTIONS = (
    ("grpc.keepalive_time_ms", 2000),
    ("grpc.keepalive_timeout_ms", 1000),
    # without this option grpcio 1.85 waits one minute for the answer to a keepalive ping
    ("grpc.http2.ping_timeout_ms", 1000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
)
CHANNEL_OPTIONS = (
    *_SIZE_OPTIONS,
    *_KEEPALIVE_OPTIONS,
    # one TCP connection per channel: a shared one would tie the feature path to the rounds' flow control
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
)
SERVER_OPTIONS = (
    *_SIZE_OPTIONS,
    *_KEEPALIVE_OPTIONS,
    ("grpc.so_reuseport", 0),  # a second replica on one fixed port must fail to start, not share its calls
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 500),
    ("grpc.http2.max_ping_strikes", 0),
)


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files of mutual TLS: both ends present a certificate signed by the same authority."""

    certificate: Path
    key: Path
    authority: Path

    @staticmethod
    def from_environment(environment: Mapping[str, str] = os.environ) -> TlsFiles | None:
        """Return the files that Ray itself uses, or None without RAY_USE_TLS.

        The variables are RAY_TLS_SERVER_CERT, RAY_TLS_SERVER_KEY and RAY_TLS_CA_CERT. Raises ConfigError if one is missing.
        """
        if environment.get("RAY_USE_TLS", "0").lower() in ("", "0", "false"):
            return None
        names = ("RAY_TLS_SERVER_CERT", "RAY_TLS_SERVER_KEY", "RAY_TLS_CA_CERT")
        missing = [name for name in names if not environment.get(name)]
        if missing:
            raise ConfigError(f"RAY_USE_TLS is set, but not {', '.join(missing)}: name the PEM files.")
        return TlsFiles(*(Path(environment[name]) for name in names))

    def server_credentials(self) -> grpc.ServerCredentials:
        """Read the files for a server that demands client certificates."""
        pair = (self.key.read_bytes(), self.certificate.read_bytes())
        return grpc.ssl_server_credentials(
            [pair], root_certificates=self.authority.read_bytes(), require_client_auth=True
        )

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """Read the files for a client."""
        return grpc.ssl_channel_credentials(
            root_certificates=self.authority.read_bytes(),
            private_key=self.key.read_bytes(),
            certificate_chain=self.certificate.read_bytes(),
        )


def open_channel(address: str, tls: TlsFiles | None) -> grpc.aio.Channel:
    """Return a channel to HOST:PORT; it connects on first use."""
    if tls is None:
        return grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)
    return grpc.aio.secure_channel(address, tls.channel_credentials(), options=CHANNEL_OPTIONS)
