"""`model:` in a configuration names a folder, a GGUF file, `smollm2`, `zoo` or `tabular:...`; these functions resolve,
check and open it.

Neither torch nor transformers is imported until a model needs it: the router reads its tokenizer here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hedgespec import zoo
from hedgespec.assembly.model_cache import converted_folder
from hedgespec.assembly.published import PUBLISHED
from hedgespec.config import AppArgs, DrafterConfig, TargetConfig
from hedgespec.errors import ConfigError, ModelFolderError
from hedgespec.learning.build import make_learner
from hedgespec.models.tabular_source import TABULAR, TABULAR_ALPHABET, TABULAR_CONTEXT, TabularSource
from hedgespec.protocols import Drafter, FeatureTransport, Target
from hedgespec.sampling.parameter import parameters
from hedgespec.zoo.smollm2 import heads as smollm2

if TYPE_CHECKING:
    from hedgespec.tokenization import Tokenizer

ZOO, ZOO_NAME = "zoo", "hedgespec-zoo"
SMOLLM2 = "smollm2"
GGUF_SUFFIX = ".gguf"

_SHIPPED_HEADS: Mapping[str, Callable[[], Mapping[str, Path]]] = {
    ZOO: lambda: zoo.drafter_folders(),
    SMOLLM2: lambda: smollm2.head_folders(),
}
"""`model:` of a drafter -> the folders of the heads that it names, by drafter id"""


def located(args: AppArgs) -> AppArgs:
    """Return the configuration with the target's folder in place of a GGUF file or of the name of a published model.

    A file is converted the first time, which takes seconds to minutes. Raises ModelFolderError, ConfigError.
    """
    target = args.target
    if target.model in PUBLISHED:
        folder = PUBLISHED[target.model].folder(args.state_dir)
        if not folder.is_dir():
            raise ConfigError(f"target.model: {PUBLISHED[target.model].missing}")
    elif _is_gguf(target.model):
        folder = converted_folder(Path(target.model).expanduser(), args.state_dir)
    else:
        return args
    changes = {"model": str(folder), "model_name": served_name(target)}
    return args.model_copy(update={"target": target.model_copy(update=changes)})


def open_target(config: TargetConfig, transport: FeatureTransport) -> Target:
    """Load the target and start it. Raises ModelFolderError, ConfigError."""
    if config.model.startswith(TABULAR):
        from hedgespec.models.tabular import TabularTarget

        source = TabularSource.parse(config.model)
        return TabularTarget(source.target_model(), source.delay_s)
    from hedgespec.engine.factory import build_target

    return build_target(resolved_target(config), transport)


def open_drafters(configs: Sequence[DrafterConfig], target: TargetConfig) -> Mapping[str, Drafter]:
    """Load drafters and start them, in the configured order. Raises ModelFolderError, ConfigError."""
    from hedgespec.engine.factory import build_drafters

    return build_drafters([resolved_drafter(config) for config in configs], resolved_target(target))


def load_tokenizer(config: TargetConfig) -> Tokenizer:
    """Return the target's tokenizer. Raises ModelFolderError."""
    from hedgespec.tokenization import Tokenizer

    if config.model.startswith(TABULAR):
        return _tabular_tokenizer()
    return Tokenizer.from_folder(_target_folder(config))


def target_identity(config: TargetConfig) -> str:
    """Return name and weight digest of the target, part of the key of learned preferences. Raises ModelFolderError."""
    if config.model.startswith(TABULAR):
        return config.model
    from hedgespec.models.folder import weights_digest

    return f"{served_name(config)}@{weights_digest(_target_folder(config))}"


def served_name(config: TargetConfig) -> str:
    """Return the name under /v1/models."""
    if config.model_name is not None:
        return config.model_name
    if config.model == ZOO:
        return ZOO_NAME
    if config.model.startswith(TABULAR):
        return "tabular"
    return Path(config.model).expanduser().resolve().name.removesuffix(GGUF_SUFFIX)


def check_sources(args: AppArgs) -> list[str]:
    """Return `path.to.key: problem` for every model that is not there. Cheap: it runs before anything starts."""
    models = {"target.model": _target_problem(args.target.model, args.state_dir)}
    models |= {f"drafters.{i}.model": _problem(d.model) for i, d in enumerate(args.drafters) if _heads(d) is None}
    problems = [f"{path}: {problem}" for path, problem in models.items() if problem]
    problems += _extension_problems(args)
    if args.target.model == ZOO and not zoo.target_folder().is_dir():
        problems.append("target.model: the zoo's weights are not here; run `hedgespec zoo build`")
    for index, drafter in enumerate(args.drafters):
        if problem := _head_problem(drafter):
            problems.append(f"drafters.{index}.id: {problem}")
    return problems


def _extension_problems(args: AppArgs) -> list[str]:
    """Return what is wrong with a learner or sampling parameters of installed packages."""
    problems = []
    try:
        parameters()
    except ConfigError as error:
        problems.append(f"installed packages: {error}")
    try:
        learner = make_learner(args.learner.name)
        learner.weights(learner.init(np.full(2, 0.5)))
    except Exception as error:  # whatever a learner of an installed package does
        problems.append(f"learner.name: {args.learner.name} fails to start: {type(error).__name__}: {error}")
    return problems


def _is_gguf(model: str) -> bool:
    return model.endswith(GGUF_SUFFIX) and not Path(model).expanduser().is_dir()


def _target_problem(model: str, state_dir: Path) -> str:
    """Return what is wrong with the target's name, which may also be a GGUF file's or a published model's."""
    if model in PUBLISHED:
        return "" if PUBLISHED[model].folder(state_dir).is_dir() else PUBLISHED[model].missing
    if not _is_gguf(model):
        return _problem(model)
    from hedgespec.models.gguf.convert import check_gguf

    try:
        check_gguf(Path(model).expanduser())
    except ModelFolderError as error:
        return str(error)
    return ""


def _heads(config: DrafterConfig) -> Mapping[str, Path] | None:
    """Return the shipped heads that a drafter's model names, by id; None for a drafter with a model of its own."""
    shipped = _SHIPPED_HEADS.get(config.model or "")
    return None if shipped is None else shipped()


def _head_problem(config: DrafterConfig) -> str:
    """Return what is wrong with the id of a shipped head, empty if nothing is."""
    heads = _heads(config)
    if heads is None or config.id in heads:
        return ""
    return f"{config.model} has no head {config.id!r}, only {list(heads)}"


def _problem(model: str | None) -> str:
    """Return what is wrong with the name of a model, empty if nothing is."""
    if model is None or model == ZOO:
        return ""
    if not model.startswith(TABULAR):
        return "" if Path(model).expanduser().is_dir() else f"{model} is not a folder"
    try:
        TabularSource.parse(model)
    except ConfigError as error:
        return str(error)
    return ""


def resolved_target(config: TargetConfig) -> TargetConfig:
    """Return the configuration with a folder in place of `zoo`; a tabular target stays as it is."""
    if config.model.startswith(TABULAR):
        return config
    return config.model_copy(update={"model": str(_target_folder(config))})


def resolved_drafter(config: DrafterConfig) -> DrafterConfig:
    """Return the configuration with a folder in place of `zoo` or `smollm2`. Raises ConfigError for an unknown head."""
    heads = _heads(config)
    if heads is None:
        return config
    if problem := _head_problem(config):
        raise ConfigError(f"drafter {config.id!r}: {problem}.")
    return config.model_copy(update={"model": str(heads[config.id])})


def _target_folder(config: TargetConfig) -> Path:
    return zoo.target_folder() if config.model == ZOO else Path(config.model).expanduser()


def _tabular_tokenizer() -> Tokenizer:
    """Return a tokenizer with one token per letter of the alphabet; any other character counts as a space."""
    import tokenizers

    from hedgespec.tokenization import Tokenizer

    letters = {"Ġ" if letter == " " else letter: token for token, letter in enumerate(TABULAR_ALPHABET)}
    backend = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=letters, merges=[], unk_token="Ġ"))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = tokenizers.decoders.ByteLevel()
    return Tokenizer.of(backend, eos_token_ids=(), max_model_len=TABULAR_CONTEXT, vocab_size=len(letters))
