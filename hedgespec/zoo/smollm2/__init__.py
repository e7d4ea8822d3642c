"""Make the draft heads shipped for SmolLM2-135M-Instruct: a generic one and one expert for each of these domains."""

from __future__ import annotations

GENERIC = "generic"
DOMAINS = ("code", "sql", "arithmetic", "json", "prose", "qa", "translation", "documents")
