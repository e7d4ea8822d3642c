"""JSON API traffic: request lines and the records that answer them, consistent within a document."""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import Any

from hedgespec.zoo.generators import Exchange

_FIRST = ("Ada", "Alan", "Barbara", "Carl", "Donald", "Edith", "Frances", "Grace", "John", "Linus", "Margaret", "Niels")
_LAST = ("Lovelace", "Turing", "Liskov", "Gauss", "Knuth", "Clarke", "Allen", "Hopper", "Backus", "Hamilton", "Bohr")
_CITIES = ("Paris", "Berlin", "Madrid", "Oslo", "Tokyo", "Boston", "Lima", "Cairo", "Dublin", "Vienna")
_COUNTRIES = ("FR", "DE", "ES", "NO", "JP", "US", "PE", "EG", "IE", "AT")
_TAGS = ("new", "sale", "popular", "limited", "archived", "featured", "draft", "verified", "internal", "beta")
_NOUNS = ("lamp", "chair", "router", "camera", "desk", "monitor", "keyboard", "speaker", "charger", "helmet")
_ADJECTIVES = ("small", "wireless", "compact", "classic", "portable", "heavy", "modern", "foldable", "smart", "solid")

Record = dict[str, Any]


def document(seed: int) -> list[Exchange]:
    """Make five to nine requests to one resource with their responses."""
    rng = Random(f"json-{seed}")
    resource = rng.choice(sorted(_RECORDS))
    fields = rng.sample(sorted(_RECORDS[resource](rng)), rng.randint(6, 9))
    indent = rng.choice((2, 2, 4, None))
    return [_exchange(rng, resource, fields, indent) for _ in range(rng.randint(5, 9))]


def _exchange(rng: Random, resource: str, fields: list[str], indent: int | None) -> Exchange:
    number, roll = rng.randint(1, 9999), rng.random()

    def record(n: int) -> Record:
        return {"id": n, **{k: v for k, v in _RECORDS[resource](rng).items() if k in fields}}

    if roll < 0.45:
        return _answer(f"GET /v1/{resource}/{number}", 200, record(number), indent)
    if roll < 0.65:
        limit, page = rng.choice((2, 3)), rng.randint(1, 9)
        data = [record(number + i) for i in range(limit)]
        body = {"object": "list", "page": page, "limit": limit, "data": data, "has_more": rng.random() < 0.5}
        return _answer(f"GET /v1/{resource}?page={page}&limit={limit}", 200, body, indent)
    if roll < 0.8:
        new = record(number)
        sent = {k: v for k, v in new.items() if k not in ("id", "created_at", "updated_at")}
        return _answer(f"POST /v1/{resource}\n{json.dumps(sent, indent=indent)}", 201, new, indent)
    if roll < 0.9:
        return _answer(f"DELETE /v1/{resource}/{number}", 200, {"id": number, "deleted": True}, indent)
    status, kind, message = rng.choice(
        (
            (404, "not_found", f"No such resource: {resource}/{number}"),
            (401, "unauthorized", "Missing or invalid API key"),
            (429, "rate_limited", f"Too many requests, retry after {rng.randint(1, 60)} seconds"),
            (422, "validation_error", f"Field '{rng.choice(fields)}' is required"),
        )
    )
    body = {"error": {"status": status, "type": kind, "message": message}}
    return _answer(f"GET /v1/{resource}/{number}", status, body, indent)


def _answer(request: str, status: int, body: Record, indent: int | None) -> Exchange:
    return Exchange(request, f"HTTP {status}\n{json.dumps(body, indent=indent)}")


def _time(rng: Random) -> str:
    day = f"{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}"
    clock = f"{rng.randint(0, 23):02d}:{rng.randint(0, 59):02d}"
    return f"{rng.randint(2021, 2025)}-{day}T{clock}:00Z"


def _common(rng: Random) -> Record:
    return {
        "created_at": _time(rng),
        "updated_at": _time(rng),
        "tags": rng.sample(_TAGS, rng.randint(0, 3)),
        "active": rng.random() < 0.7,
    }


def _address(rng: Random) -> Record:
    index = rng.randrange(len(_CITIES))
    return {
        "street": f"{rng.randint(1, 200)} {rng.choice(_LAST)} Street",
        "city": _CITIES[index],
        "country": _COUNTRIES[index],
    }


def _user(rng: Random) -> Record:
    first, last = rng.choice(_FIRST), rng.choice(_LAST)
    return {
        "name": f"{first} {last}",
        "email": f"{first.lower()}.{last.lower()}@example.com",
        "role": rng.choice(("admin", "editor", "viewer", "owner")),
        "age": rng.randint(18, 80),
        "address": _address(rng),
        "settings": {"theme": rng.choice(("dark", "light")), "language": rng.choice(("en", "fr", "de", "es"))},
        **_common(rng),
    }


def _product(rng: Random) -> Record:
    return {
        "name": f"{rng.choice(_ADJECTIVES)} {rng.choice(_NOUNS)}",
        "sku": f"{rng.choice('ABCDEFGH')}{rng.randint(100, 999)}-{rng.randint(10, 99)}",
        "price": {"amount": rng.randint(100, 99999) / 100, "currency": rng.choice(("EUR", "USD", "GBP"))},
        "stock": rng.randint(0, 500),
        "rating": rng.randint(10, 50) / 10,
        "dimensions": {"width": rng.randint(1, 99), "height": rng.randint(1, 99), "depth": rng.randint(1, 99)},
        **_common(rng),
    }


def _order(rng: Random) -> Record:
    items = [
        {"product_id": rng.randint(1, 999), "quantity": rng.randint(1, 5), "unit_price": rng.randint(1, 200)}
        for _ in range(rng.randint(1, 3))
    ]
    return {
        "customer_id": rng.randint(1, 9999),
        "status": rng.choice(("pending", "paid", "shipped", "delivered", "cancelled")),
        "items": items,
        "total": sum(i["quantity"] * i["unit_price"] for i in items),
        "shipping": _address(rng),
        "currency": rng.choice(("EUR", "USD", "GBP")),
        **_common(rng),
    }


def _device(rng: Random) -> Record:
    return {
        "serial": f"SN-{rng.randint(100000, 999999)}",
        "model": f"{rng.choice(_NOUNS)}-{rng.randint(1, 9)}",
        "firmware": f"{rng.randint(1, 5)}.{rng.randint(0, 9)}.{rng.randint(0, 20)}",
        "battery": rng.randint(0, 100),
        "location": {"lat": rng.randint(-900, 900) / 10, "lon": rng.randint(-1800, 1800) / 10},
        "online": rng.random() < 0.8,
        "temperature": rng.randint(-200, 800) / 10,
        **_common(rng),
    }


def _build(rng: Random) -> Record:
    return {
        "branch": rng.choice(("main", "develop", "release", "hotfix")),
        "commit": f"{rng.getrandbits(28):07x}",
        "status": rng.choice(("queued", "running", "passed", "failed")),
        "duration_s": rng.randint(5, 3600),
        "author": f"{rng.choice(_FIRST)} {rng.choice(_LAST)}",
        "steps": [{"name": s, "ok": rng.random() < 0.9} for s in ("checkout", "test", "package")],
        "attempt": rng.randint(1, 4),
        **_common(rng),
    }


def _event(rng: Random) -> Record:
    return {
        "type": rng.choice(("login", "logout", "purchase", "refund", "upload", "comment")),
        "user_id": rng.randint(1, 9999),
        "ip": ".".join(str(rng.randint(1, 254)) for _ in range(4)),
        "agent": rng.choice(("firefox", "chrome", "safari", "curl", "mobile")),
        "severity": rng.choice(("info", "warning", "error")),
        "metadata": {"session": f"{rng.getrandbits(32):08x}", "retries": rng.randint(0, 5)},
        "duration_ms": rng.randint(1, 5000),
        **_common(rng),
    }


_RECORDS: dict[str, Callable[[Random], Record]] = {
    "users": _user,
    "products": _product,
    "orders": _order,
    "devices": _device,
    "builds": _build,
    "events": _event,
}
