"""The inputs that commands share: configuration files and held-out prompts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import typer
import yaml
from numpy.typing import NDArray
from pydantic import ValidationError

from hedgespec import zoo
from hedgespec.config import AppArgs, laptop_args
from hedgespec.errors import ConfigError
from hedgespec.tokenization import Tokenizer

PromptIds = dict[str, list[NDArray[np.int32]]]
"""domain -> prompts as token ids"""

MAX_CONFIG_BYTES = 1 << 20


def read_args(config: Path | None) -> AppArgs:
    """Read a configuration (AppArgs, or a Serve config that contains them); None is the embedded zoo.

    Raises ConfigError, which lists every problem as `path.to.key: what is wrong`.
    """
    if config is None:
        return laptop_args()
    content = read_mapping(config)
    if "applications" in content:
        content = serve_config_args(config, content)
    try:
        return AppArgs.model_validate(content)
    except ValidationError as error:
        # without the values, which may be secrets
        problems = [f"{'.'.join(map(str, e['loc'])) or 'config'}: {e['msg']}" for e in error.errors()]
        raise ConfigError("\n".join(problems)) from error


def without_prefix_cache(args: AppArgs) -> AppArgs:
    """Return the configuration without prefix cache, which would favour the later ones of arms that share prompts."""
    return changed(args, "target", prefix_cache_tokens=0)


def changed(args: AppArgs, section: str, **values: Any) -> AppArgs:
    """Return the configuration with other values in one of its sections."""
    return args.model_copy(update={section: getattr(args, section).model_copy(update=values)})


def read_mapping(path: Path) -> dict[str, Any]:
    """Read a YAML or JSON file with a mapping. Raises ConfigError."""
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise ConfigError(f"{path}: larger than {MAX_CONFIG_BYTES} bytes")
        text = path.read_text(encoding="utf-8")
        content = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error.__class__.__name__}: {error}") from error
    except (yaml.YAMLError, json.JSONDecodeError) as error:
        raise ConfigError(f"{path}: not valid YAML or JSON: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected a mapping at the top, got {type(content).__name__}")
    return content


def serve_config_args(path: Path, content: dict[str, Any]) -> Any:
    """Return the `args` of the only application of a Serve config. Raises ConfigError."""
    applications = content["applications"]
    if not isinstance(applications, list) or len(applications) != 1 or not isinstance(applications[0], dict):
        raise ConfigError(f"{path}: applications: expected exactly one application")
    return applications[0].get("args", {})


def held_out_texts(domains: Sequence[str] | None, count: int) -> dict[str, list[str]]:
    """Return `count` prompts of each domain, or of all domains. Raises BadParameter for an unknown domain."""
    unknown = sorted(set(domains or ()) - set(zoo.DOMAINS))
    if unknown:
        raise typer.BadParameter(f"no such domain: {unknown}; there are {list(zoo.DOMAINS)}")
    return {domain: zoo.held_out_prompts(domain)[:count] for domain in domains or zoo.DOMAINS}


def test_questions(count: int) -> dict[str, list[str]]:
    """Return `count` questions of each domain that SmolLM2's heads were not trained on."""
    from hedgespec.zoo.smollm2 import DOMAINS
    from hedgespec.zoo.smollm2.questions import questions

    return {domain: questions(domain, "test", count) for domain in DOMAINS}


def asked(tokenizer: Tokenizer, questions: Mapping[str, Sequence[str]]) -> PromptIds:
    """Encode questions as chats that wait for the answer."""
    return {
        domain: [tokenizer.apply_chat_template([{"role": "user", "content": question}]) for question in row]
        for domain, row in questions.items()
    }


def encoded(tokenizer: Tokenizer, texts: Mapping[str, Sequence[str]]) -> PromptIds:
    """Encode the texts of each domain."""
    return {domain: [tokenizer.encode(text) for text in row] for domain, row in texts.items()}


def total_prompts(work: Mapping[str, Sequence[object]]) -> int:
    """Count the prompts of all domains."""
    return sum(map(len, work.values()))
