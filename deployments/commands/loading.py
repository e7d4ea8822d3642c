"""Read configuration files for the commands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from hedgespec.config import AppArgs, Device, laptop_args
from hedgespec.errors import ConfigError

MAX_CONFIG_BYTES = 1 << 20


def read_args(config: Path | None, device: Device = "cpu") -> AppArgs:
    """Read a configuration (AppArgs, or a Serve config that contains them); None is the embedded default.

    Raises ConfigError, which lists every problem as `path.to.key: what is wrong`.
    """
    if config is None:
        return laptop_args(device)
    content = read_mapping(config)
    if "applications" in content:
        content = serve_config_args(config, content)
    try:
        return AppArgs.model_validate(content)
    except ValidationError as error:
        raise ConfigError("\n".join(explain(error))) from error


def without_prefix_cache(args: AppArgs) -> AppArgs:
    """Return the configuration without prefix cache, which would favour the later ones of arms that share prompts."""
    return args.model_copy(update={"target": args.target.model_copy(update={"prefix_cache_tokens": 0})})


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


def explain(error: ValidationError) -> list[str]:
    """Return one line per problem, without the value, which may be a secret."""
    return [f"{'.'.join(map(str, e['loc'])) or 'config'}: {e['msg']}" for e in error.errors()]
