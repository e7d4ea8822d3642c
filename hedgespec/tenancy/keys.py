"""API keys are random secrets with a checksum; only their hashes are kept."""

from __future__ import annotations

import hashlib
import re
import secrets
import zlib

PREFIX = "sk-hs-"
HASH_FORM = re.compile(r"sha256:[0-9a-f]{64}")

_NUM_SECRET_BYTES = 32
_KEY = re.compile(re.escape(PREFIX) + r"([A-Za-z0-9_-]{43})([0-9a-f]{8})")


def mint_key() -> tuple[str, str]:
    """Return a new secret, to be shown once, and the hash that goes into the keys file."""
    body = secrets.token_urlsafe(_NUM_SECRET_BYTES)
    secret = PREFIX + body + _checksum(body)
    return secret, hash_key(secret)


def hash_key(secret: str) -> str:
    # A plain hash is enough: the secret is 256 random bits, so there is no dictionary to try.
    return "sha256:" + hashlib.sha256(secret.encode()).hexdigest()


def is_well_formed(secret: str) -> bool:
    """Return whether this could be one of our keys; the checksum catches cut-off and mistyped ones."""
    match = _KEY.fullmatch(secret)
    return match is not None and _checksum(match.group(1)) == match.group(2)


def _checksum(body: str) -> str:
    return f"{zlib.crc32(body.encode()):08x}"
