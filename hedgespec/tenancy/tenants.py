"""A request's tenant comes from its API key and from nothing else."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import structlog

from hedgespec.errors import ConfigError, RequestError
from hedgespec.tenancy.keys import FileStamp, hash_key, is_well_formed, read_keys_file, stamp_of

DEFAULT_TENANT = "default"
RELOAD_INTERVAL_S = 5.0
"""A revoked key stops working after this and the time the file needs to arrive."""

_WRONG_KEY = "Missing or incorrect API key. Send it as 'Authorization: Bearer KEY'."
_LOOPBACK_ONLY = "This server has no keys file and answers clients on its own machine only."
_log = structlog.get_logger("hedgespec.tenancy")


class Tenants:
    """The tenants by key hash. Without a keys file there is one, `default`, for clients on this machine only."""

    def __init__(self, tenant_by_hash: Mapping[str, str] | None) -> None:
        """None: no keys."""
        self._tenant_by_hash = None if tenant_by_hash is None else MappingProxyType(dict(tenant_by_hash))

    @staticmethod
    def from_file(path: Path | None, clock: Callable[[], float] | None = None) -> Tenants:
        """Raises ConfigError with every problem of the file. With a clock the file is read again when it changes."""
        if path is None:
            return Tenants(None)
        return Tenants(read_keys_file(path)) if clock is None else _ReloadingTenants(path, clock)

    def authenticate(self, authorization: str | None, client_is_loopback: bool) -> str:
        """Return the tenant id. Raises RequestError 401, with the same text whatever was wrong with the key."""
        if self._tenant_by_hash is None:
            if client_is_loopback:
                return DEFAULT_TENANT
            raise _unauthorized(_LOOPBACK_ONLY)
        scheme, _, secret = (authorization or "").partition(" ")
        secret = secret.strip()
        if scheme.lower() != "bearer" or not is_well_formed(secret):
            raise _unauthorized(_WRONG_KEY)
        tenant = self._look_up(hash_key(secret))
        if tenant is None:
            raise _unauthorized(_WRONG_KEY)
        return tenant

    def _look_up(self, presented: str) -> str | None:
        """Compare with every key, whether or not one has matched: the time taken tells nothing about the keys."""
        assert self._tenant_by_hash is not None
        found = None
        for known, tenant in self._tenant_by_hash.items():
            if hmac.compare_digest(known, presented):
                found = tenant
        return found


class _ReloadingTenants(Tenants):
    """Follows the keys file. A file that has become wrong changes nothing: the keys of the last good one stay."""

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        self._path, self._clock = path, clock
        self._stamp: FileStamp | None = stamp_of(path)
        self._next_check = clock() + RELOAD_INTERVAL_S
        super().__init__(read_keys_file(path))

    def _look_up(self, presented: str) -> str | None:
        if self._clock() >= self._next_check:
            self._next_check = self._clock() + RELOAD_INTERVAL_S
            self._reload_if_changed()
        return super()._look_up(presented)

    def _reload_if_changed(self) -> None:
        stamp = stamp_of(self._path)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._tenant_by_hash = MappingProxyType(read_keys_file(self._path))
        except ConfigError as error:
            _log.error("keys_file_rejected", reason=str(error))
        else:
            _log.info("keys_file_reloaded", count=len(self._tenant_by_hash))


def _unauthorized(message: str) -> RequestError:
    return RequestError(message, status=401, code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"})
