"""Open the store that a URL names."""

from __future__ import annotations

from hedgespec.catalogue import STORES
from hedgespec.config import StoreConfig
from hedgespec.errors import ConfigError
from hedgespec.protocols import PreferenceStore
from hedgespec.store.fields import OnEvent, ignore_event


def open_store(config: StoreConfig, url: str, on_event: OnEvent = ignore_event) -> PreferenceStore:
    """Return a store that connects on first use: a database that is down does not keep the router from starting.

    Raises ConfigError for a URL that names no store.
    """
    scheme = url.partition(":")[0]  # nothing behind it goes into a message: it may hold a password
    if "://" not in url or scheme not in STORES.names():
        known = ", ".join(f"{name}://" for name in STORES.names())
        raise ConfigError(f"No store for scheme {scheme!r}. A store URL begins with one of {known}.")
    store: PreferenceStore = STORES.load(scheme)(url, config, on_event)
    return store
