"""The configuration of a HedgeSpec application: what `hedgespec serve --config FILE`, a Serve config and Kubernetes send.

Unknown keys are errors. Nothing here imports torch, transformers or Ray: the router reads the same models.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from hedgespec.catalogue import BANDITS, DRAFTER_KINDS, LEARNERS, OBJECTIVES, learner_registry
from hedgespec.cores import available_cores
from hedgespec.errors import ConfigError
from hedgespec.registry import Registry, unknown_name

Device = Literal["cpu", "cuda"]
Quantization = Literal["none", "bf16", "int8", "int4"]
DraftFormName = Literal["chain", "tree", "iid", "distinct"]
Identifier = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]


def named_in(*registries: Registry[Any]) -> AfterValidator:
    """A name must be in one of the registries; the error lists the known ones of all."""

    def check(name: str) -> str:
        known = [known for registry in registries for known in registry.names()]
        if name not in known:
            renamed = {old: new for registry in registries for old, new in registry.renamed.items()}
            raise ValueError(str(unknown_name(registries[0].kind, name, known, renamed)))
        return name

    return AfterValidator(check)


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class AutoscalingConfig(Section):
    """Passed to Ray Serve. target_ongoing_requests counts leases on the target and requests on the router."""

    min_replicas: int = Field(1, ge=0)
    max_replicas: int = Field(1, ge=1)
    target_ongoing_requests: float = Field(8.0, gt=0)
    upscale_delay_s: float = Field(5.0, ge=0)
    downscale_delay_s: float = Field(300.0, ge=0)
    look_back_period_s: float = Field(15.0, gt=10)

    @model_validator(mode="after")
    def check_bounds(self) -> AutoscalingConfig:
        if self.min_replicas > self.max_replicas:
            raise ValueError(f"min_replicas {self.min_replicas} is above max_replicas {self.max_replicas}")
        return self


class ReplicaConfig(Section):
    """How one deployment is placed. gpus is a share of one GPU, so at most 1 (ADR 11), and only counts
    with `device: cuda`.

    node_label: value of the node label `hedgespec/role` that the replicas are pinned to (none: anywhere)
    port: gRPC port of each replica, 0 picks a free one; a fixed port needs one replica per host
    num_threads: torch threads per replica on CPU; 0 is one for a drafter, and for the target up to MOST_TARGET_THREADS of
        the cores that its process may use, divided by the number of its replicas
    cuda_graphs: with `device: cuda`, the target and EAGLE-3 heads decode in CUDA graphs that are captured when the replica
        starts. They need KV memory of their own beside max_cached_tokens, half as much
    """

    device: Device = "cpu"
    gpus: float = Field(1.0, gt=0, le=1)
    cpus: float = Field(0.0, ge=0)
    num_threads: int = Field(0, ge=0)
    cuda_graphs: bool = True
    node_label: str | None = None
    port: int = Field(0, ge=0, le=65535)
    max_sessions: int = Field(32, ge=1)
    max_cached_tokens: int = Field(65536, ge=64, description="KV memory of one replica, in tokens")
    replicas: int | AutoscalingConfig = 1


MOST_TARGET_THREADS = 8
"""Beyond so many cores a pass waits for memory rather than for arithmetic."""


class TargetConfig(ReplicaConfig):
    """model: a safetensors folder of a causal LM; or a GGUF file, which is converted once and kept under state_dir; or
    `smollm2`, which `hedgespec models get smollm2` fetches; `zoo` for the embedded one; `tabular:SEED` for tests.

    prefix_cache_tokens: KV rows of earlier text kept for requests of the same tenant that begin alike, in what sessions
    leave free of max_cached_tokens; hidden features are kept with them in host memory. 0 is off
    quantization: how weights on the CPU are rounded when they are loaded. The target is then the rounded model: its text is
    the same with any drafter, draft length and batch. `hedgespec models compare` says how far it is from float32
    """

    model: str = "zoo"
    model_name: str | None = Field(None, description="name under /v1/models; default: the folder's name")
    prefix_cache_tokens: int = Field(8192, ge=0)
    quantization: Quantization = "none"

    @property
    def threads(self) -> int:
        """The torch threads of a replica, see num_threads."""
        most_replicas = self.replicas if isinstance(self.replicas, int) else self.replicas.max_replicas
        chosen = min(available_cores() // max(most_replicas, 1), MOST_TARGET_THREADS)
        return self.num_threads or max(chosen, 1)

    @model_validator(mode="after")
    def check_quantization(self) -> TargetConfig:
        if self.quantization != "none" and (self.device != "cpu" or self.model.startswith("tabular:")):
            owner = f"device {self.device}" if self.device != "cpu" else f"model {self.model}"
            raise ValueError(
                f"quantization {self.quantization} is for models on device cpu, not for {owner}; leave it out"
            )
        return self


class DrafterConfig(ReplicaConfig):
    """One drafter.

    kind:  a name in `catalogue.DRAFTER_KINDS`, or one that an installed package registers
    model: a folder, or the shipped head named like the id: `zoo` or `smollm2`; only for kinds that take a model
    group: drafters with the same group share one process (and GPU)
    quantization: weights of EAGLE-3 heads on the CPU are rounded to int8 when they are loaded (`auto`, `int8`): that changes
        drafts a little, their cost a lot, and no text. `none` keeps float32. Nothing else can be rounded
    """

    id: Identifier
    kind: Annotated[str, named_in(DRAFTER_KINDS)]
    model: str | None = None
    group: Identifier | None = None
    quantization: Literal["auto", "int8", "none"] = "auto"

    @property
    def threads(self) -> int:
        """The torch threads of a replica, see num_threads."""
        return self.num_threads or 1

    @property
    def is_in_int8(self) -> bool:
        """Whether its weights are rounded to int8 when they are loaded."""
        return self.quantization != "none" and self.device == "cpu" and DRAFTER_KINDS.load(self.kind).takes_int8

    @model_validator(mode="after")
    def check_kind(self) -> DrafterConfig:
        try:
            DRAFTER_KINDS.load(self.kind).check(self)
        except ConfigError as error:
            raise ValueError(str(error)) from error
        return self


BANDIT_OBJECTIVES = ("time", "rounds")
"""What a configuration of a bandit may leave as it is; a bandit counts the tokens of its own rounds and reads none."""


class LearnerConfig(Section):
    """How drafters are chosen.

    name:         the learner; the bandits are baselines that see only their own rounds and keep no preferences
    objective:    what a loss means (design 5)
    prior_mixing: the eps of prior = (1 - eps) * tenant preference + eps * uniform
    follow:       draw the drafter from the weights, as the bounds assume, or take the one with the largest weight
    baseline:     the drafter that `safe` never loses more than three rounds to; default: the first one
    """

    name: Annotated[str, named_in(LEARNERS, BANDITS)] = "adaptive"
    objective: Annotated[str, named_in(OBJECTIVES)] = "time"
    prior_mixing: float = Field(0.1, gt=0, le=1)
    follow: Literal["sample", "leader"] = "sample"
    baseline: Identifier | None = None

    @model_validator(mode="after")
    def check_baseline(self) -> LearnerConfig:
        if self.baseline is not None and self.name != "safe":
            raise ValueError(f"baseline is for learner safe, not for {self.name}")
        return self

    @property
    def is_bandit(self) -> bool:
        """Whether it learns from the rounds of the drafter it chose, instead of every drafter's scores."""
        return learner_registry(self.name) is BANDITS


class SpeculationConfig(Section):
    """How drafts are made and how drafters are scored.

    max_draft_tokens:     most tokens that a round drafts in a row
    draft_deadline_s:     a round goes on without speculation when its draft takes longer
    score_depth:          see `types.ScoreDepth`
    warm_rounds:          number of first rounds before which the router waits for outstanding scores, each time for at most
                          warm_wait_fraction of the last round's time
    score_timeout_rounds: rounds to wait for scores before closing a position without the missing ones
    score_dense_rounds, score_every: the first rounds of an answer all ask for scores; later ones form sweeps, which grow
                          to score_every rounds, and ask the drafters in turn for everything verified since
    sleep_weight, wake_every_rounds: a drafter below this weight in several sweeps is not scored until it is woken: after
                          wake_every_rounds (0: no drafter sleeps), or when the leader gets worse
    prompt_scores:        number of last prompt tokens that drafters score before the first round (0: none)
    draft_form, branching, num_nodes: see `types.DraftForm`; num_nodes of a round, 0 is max_draft_tokens * branching
    merge_drafters:       number of drafters, those with the largest weights, that draft together and share num_nodes
    draft_lengths:        lengths that objective `time` may choose from; none is max_draft_tokens alone
    """

    max_draft_tokens: int = Field(5, ge=0, le=16)
    draft_deadline_s: float = Field(0.5, gt=0)
    verify_deadline_s: float = Field(10.0, gt=0)
    open_deadline_s: float = Field(30.0, gt=0)
    score_depth: Literal["depth1", "exact"] = "exact"
    warm_rounds: int = Field(4, ge=0)
    warm_wait_fraction: float = Field(0.1, ge=0, le=1)
    score_timeout_rounds: int = Field(8, ge=1)
    max_migrations: int = Field(2, ge=0)
    score_dense_rounds: int = Field(4, ge=0)
    score_every: int = Field(4, ge=1, le=64)
    sleep_weight: float = Field(0.003, ge=0, lt=0.5)
    wake_every_rounds: int = Field(12, ge=0)
    prompt_scores: int = Field(0, ge=0, le=256)
    draft_form: DraftFormName = "chain"
    branching: int = Field(1, ge=1, le=16)
    num_nodes: int = Field(0, ge=0, le=128)
    merge_drafters: int = Field(1, ge=1, le=8)
    draft_lengths: tuple[Annotated[int, Field(ge=1, le=16)], ...] = ()

    @model_validator(mode="after")
    def check_form(self) -> SpeculationConfig:
        is_chain = self.draft_form == "chain"
        if is_chain and self.branching > 1:
            raise ValueError(f"branching {self.branching} needs a draft_form other than chain")
        if not is_chain and self.branching == 1:
            raise ValueError(f"draft_form {self.draft_form} needs a branching of at least 2")
        if is_chain and self.merge_drafters == 1 and self.num_nodes > 0:
            raise ValueError("num_nodes is for trees and merged drafts; max_draft_tokens is the length of a chain")
        if self.max_draft_tokens * self.branching > 128 and self.num_nodes == 0:
            raise ValueError("max_draft_tokens * branching is above 128 nodes; set num_nodes")
        if max(self.draft_lengths, default=0) > self.max_draft_tokens:
            raise ValueError(f"draft_lengths {self.draft_lengths} go beyond max_draft_tokens {self.max_draft_tokens}")
        return self


class StoreConfig(Section):
    """url: memory://, sqlite:///FILE or redis://HOST:PORT/DB. default: a SQLite file in the state folder."""

    url: str | None = None
    password_file: Path | None = Field(None, description="file with the password of the URL's Redis user")
    connect_timeout_s: float = Field(0.25, gt=0)
    operation_timeout_s: float = Field(0.5, gt=0)
    flush_interval_s: float = Field(0.5, gt=0)
    refresh_interval_s: float = Field(1.0, gt=0)
    bucket_s: float = Field(86400.0, gt=0, description="width of a forgetting bucket")
    num_buckets: int = Field(30, ge=1, description="older buckets are forgotten")
    fold_after_s: float = Field(3600.0, gt=0, description="records unchanged for so long are summed into one")


class LimitsConfig(Section):
    """Caps checked before anything is tokenized or allocated."""

    max_body_bytes: int = Field(1 << 20, ge=1024)
    max_tokens: int = Field(4096, ge=1)
    default_max_tokens: int = Field(256, ge=1)
    max_stop: int = Field(4, ge=0)
    max_logit_bias: int = Field(300, ge=0)
    max_messages: int = Field(256, ge=1)
    max_concurrent_per_tenant: int = Field(64, ge=1)
    request_timeout_s: float = Field(300.0, gt=0)


class RouterConfig(Section):
    replicas: int | AutoscalingConfig = 1
    cpus: float = Field(0.0, ge=0)
    node_label: str | None = None
    max_ongoing_requests: int = Field(64, ge=1)


class AppArgs(Section):
    """Everything `deployments.app:build` needs. Relative paths are relative to the working directory."""

    target: TargetConfig = TargetConfig()
    drafters: tuple[DrafterConfig, ...] = ()
    learner: LearnerConfig = LearnerConfig()
    speculation: SpeculationConfig = SpeculationConfig()
    store: StoreConfig = StoreConfig()
    limits: LimitsConfig = LimitsConfig()
    router: RouterConfig = RouterConfig()
    keys_file: Path | None = None
    state_dir: Path = Path("~/.hedgespec")

    @model_validator(mode="after")
    def check_drafters(self) -> AppArgs:
        ids = [d.id for d in self.drafters]
        repeated = sorted({i for i in ids if ids.count(i) > 1})
        if repeated:
            raise ValueError(f"drafter ids must be unique, repeated: {repeated}")
        if self.limits.default_max_tokens > self.limits.max_tokens:
            raise ValueError("limits.default_max_tokens is above limits.max_tokens")
        if self.learner.baseline is not None and self.learner.baseline not in ids:
            raise ValueError(f"learner.baseline {self.learner.baseline!r} is not one of the drafters {ids}")
        return self

    @model_validator(mode="after")
    def check_objective(self) -> AppArgs:
        learner, speculation = self.learner, self.speculation
        if learner.is_bandit:
            if learner.objective not in BANDIT_OBJECTIVES or speculation.max_draft_tokens == 0:
                raise ValueError(
                    f"learner.name {learner.name} learns from its own drafts: it needs speculation.max_draft_tokens "
                    "above 0 and takes no learner.objective"
                )
            if speculation.draft_lengths:
                raise ValueError(f"learner.name {learner.name} does not choose among speculation.draft_lengths")
            return self
        form, lengths = speculation.draft_form, speculation.draft_lengths
        try:
            OBJECTIVES.load(learner.objective).check(learner.objective, form, lengths, speculation.merge_drafters)
        except ConfigError as error:
            raise ValueError(str(error)) from error
        return self

    def group_numbers(self, drafter_ids: Sequence[str]) -> list[int]:
        """Which of the given drafters share a process: the number of each one's group, counted from 0."""
        names = {d.id: d.id if d.group is None else f"group {d.group}" for d in self.drafters}
        numbers: dict[str, int] = {}
        return [numbers.setdefault(names[drafter_id], len(numbers)) for drafter_id in drafter_ids]

    @property
    def store_url(self) -> str:
        return self.store.url or f"sqlite:///{self.state_dir.expanduser() / 'preferences.sqlite3'}"


ZOO_HEADS = ("generic", "python", "c", "prose", "sql", "arithmetic", "json")


LAPTOP_GROUP = "laptop"
"""On few cores, heads that compute together cost half of what they cost in processes of their own (ADR 10)."""


def laptop_args(device: Device = "cpu") -> AppArgs:
    """The zoo on one machine: its target, its seven EAGLE-3 heads and an n-gram drafter, all drafters in one process."""
    heads = tuple(
        DrafterConfig(id=name, kind="eagle3", model="zoo", device=device, group=LAPTOP_GROUP) for name in ZOO_HEADS
    )
    return AppArgs(
        target=TargetConfig(model="zoo", model_name="hedgespec-zoo", device=device),
        drafters=(*heads, DrafterConfig(id="ngram", kind="ngram", device=device, group=LAPTOP_GROUP)),
    )
