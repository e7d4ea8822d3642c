"""A `Generator` that reaches a HedgeSpec server over HTTP, so that a benchmark of answers can also measure a server."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any

import httpx

from hedgespec.bench.answers import ROUND_PARTS
from hedgespec.bench.load import first_model, open_client, sse_events
from hedgespec.errors import HedgeSpecError
from hedgespec.sampling.parameter import plan
from hedgespec.types import DecodeStats, GenerationChunk, GenerationRequest, SamplingParams


class HttpGenerator:
    """Streams completions from a HedgeSpec server and reads its speculation reports; an async context manager.

    Entering it and every method raise HedgeSpecError when the server does not answer or is not HedgeSpec.
    """

    def __init__(self, url: str, api_key: str | None) -> None:
        self._url, self._api_key = url, api_key
        self._client = open_client(url, api_key)
        self._model = ""

    async def __aenter__(self) -> HttpGenerator:
        self._model = await first_model(self._url, self._api_key)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._client.aclose()

    async def drafter_ids(self) -> list[str]:
        """Return the ids of the configured drafters: those with a weight in the report."""
        body = {"model": self._model, "prompt": [1, 2, 3], "max_tokens": 2, "hedgespec": {"report": True}}
        try:
            answer = await self._client.post("/v1/completions", json=body)
            if answer.status_code != 200:
                raise HedgeSpecError(f"The server answered {answer.status_code}: {answer.text[:300]!r}")
            return list(answer.json()["hedgespec"]["weights"])
        except (httpx.HTTPError, KeyError, ValueError) as error:
            raise HedgeSpecError(f"{self._url} gives no speculation report ({error}); is it HedgeSpec?") from error

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[GenerationChunk, None]:
        """Implements `protocols.Generator.generate`."""
        body = {
            "model": self._model,
            "prompt": request.prompt_ids.tolist(),
            "stream": True,
            **sampling_fields(request.sampling),
            "hedgespec": {"report": True, "scope": request.scope or None, "drafter": request.drafter},
        }
        try:
            async for event in self._events(body):
                for choice in event["choices"]:
                    report = event.get("hedgespec")
                    stats = stats_from_report(report) if report is not None else None
                    yield GenerationChunk(choice["text"], (), finish_reason=choice["finish_reason"], stats=stats)
        except httpx.HTTPError as error:
            raise HedgeSpecError(f"{self._url} broke off an answer: {error}") from error

    async def _events(self, body: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        async with self._client.stream("POST", "/v1/completions", json=body) as answer:
            if answer.status_code != 200:
                raise HedgeSpecError(f"The server answered {answer.status_code}: {(await answer.aread())[:300]!r}")
            async for event in sse_events(answer):
                if "error" in event:
                    raise HedgeSpecError(f"The server failed in mid-answer: {event['error']['message']}")
                yield event


def sampling_fields(sampling: SamplingParams) -> Mapping[str, Any]:
    """Return the request fields of sampling parameters."""
    ending = {"max_tokens": sampling.max_tokens, "seed": sampling.seed, "ignore_eos": sampling.ignore_eos}
    return ending | {parameter.name: parameter.as_stated(value) for parameter, value in plan(sampling).active}


def stats_from_report(report: Mapping[str, Any]) -> DecodeStats:
    """Return the statistics that a speculation report stands for."""
    return DecodeStats(
        num_emitted=round(report["mean_accepted_tokens"] * report["rounds"]),
        num_rounds=report["rounds"],
        num_drafts=report["drafts"],
        num_drafted=report["drafted"],
        num_accepted=report["accepted"],
        num_migrations=report["migrations"],
        rounds_by_drafter=dict(report["rounds_per_drafter"]),
        drafted_by_drafter=dict(report["drafted_per_drafter"]),
        accepted_by_drafter=dict(report["accepted_per_drafter"]),
        expected_passes=dict(report["expected_passes"]),
        weights=dict(report["weights"]),
        **{f"{part}_s": report["seconds"][part] for part in ROUND_PARTS},
    )
