"""Everything that a configuration can choose by name, on one page: one line per implementation.

A line is "module:attribute"; the module is imported when a configuration names it. What each attribute has to be is said
below its registry. Packages add their own through the entry-point group that stands there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hedgespec.registry import Registry

if TYPE_CHECKING:
    from hedgespec.engine.kinds.drafter_kind import DrafterKind

LEARNERS: Registry[Any] = Registry(
    "learner",
    "hedgespec.learners",
    {
        "normalhedge": "hedgespec.learning.learners.normalhedge:normalhedge",
        "hedge": "hedgespec.learning.learners.hedge:hedge",
        "hedge_fixed": "hedgespec.learning.learners.hedge:hedge_fixed",
        "adahedge": "hedgespec.learning.learners.adahedge:adahedge",
        "adanormalhedge": "hedgespec.learning.learners.adanormalhedge:adanormalhedge",
        "squint": "hedgespec.learning.learners.squint:squint",
        "fixed_share": "hedgespec.learning.learners.fixed_share:fixed_share",
        "discounted": "hedgespec.learning.learners.normalhedge:discounted",
        "adaptive": "hedgespec.learning.learners.normalhedge:adaptive",
        "safe": "hedgespec.learning.learners.safe:safe",
    },
)
"""`(settings: LearnerSettings) -> Learner` (`hedgespec.learning.learners.learner`): learns from every drafter's scores."""

BANDITS: Registry[Any] = Registry(
    "bandit",
    "hedgespec.bandits",
    {
        "ucbspec": "hedgespec.learning.baselines.ucb:ucbspec",
        "exp3spec": "hedgespec.learning.baselines.exp3:exp3spec",
        "ucb_tuned": "hedgespec.learning.baselines.ucb:ucb_tuned",
        "ucb_discounted": "hedgespec.learning.baselines.ucb:ucb_discounted",
    },
)
"""The same for baselines that learn from the rounds they played; nothing is scored for them."""

OBJECTIVES: Registry[Any] = Registry(
    "objective",
    "hedgespec.objectives",
    {
        "time": "hedgespec.learning.objectives.time:Time",
        "rounds": "hedgespec.learning.objectives.rounds:Rounds",
        "acceptance": "hedgespec.learning.objectives.acceptance:Acceptance",
        "length": "hedgespec.learning.objectives.length:Length",
        "length_product": "hedgespec.learning.objectives.length:LengthProduct",
    },
    renamed={"throughput": "time"},
    subclass_of="hedgespec.learning.objectives.objective:Objective",
)
"""A subclass of `hedgespec.learning.objectives.objective.Objective`."""

DRAFTER_KINDS: Registry[DrafterKind] = Registry(
    "drafter kind",
    "hedgespec.drafters",
    {
        "eagle3": "hedgespec.engine.kinds.eagle3:EAGLE3",
        "causal_lm": "hedgespec.engine.kinds.causal_lm:CAUSAL_LM",
        "ngram": "hedgespec.engine.kinds.ngram:NGRAM",
        "tabular": "hedgespec.engine.kinds.tabular:TABULAR_KIND",
    },
    instance_of="hedgespec.engine.kinds.drafter_kind:DrafterKind",
)
"""An instance of a subclass of `hedgespec.engine.kinds.drafter_kind.DrafterKind`."""

STORES: Registry[Any] = Registry(
    "store",
    "hedgespec.stores",
    {
        "memory": "hedgespec.store.memory_store:from_url",
        "sqlite": "hedgespec.store.sqlite_store:from_url",
        "redis": "hedgespec.store.redis_store:RedisStore",
        "rediss": "hedgespec.store.redis_store:RedisStore",
    },
)
"""URL scheme -> `(url: str, config: StoreConfig, on_event: OnEvent) -> PreferenceStore`, see `hedgespec.store.fields`."""

SAMPLING_PARAMETERS: Registry[Any] = Registry(
    "sampling parameter",
    "hedgespec.sampling",
    {
        "logit_bias": "hedgespec.sampling.logit_bias:LogitBias",
        "repetition_penalty": "hedgespec.sampling.penalties:RepetitionPenalty",
        "frequency_penalty": "hedgespec.sampling.penalties:FrequencyPenalty",
        "presence_penalty": "hedgespec.sampling.penalties:PresencePenalty",
        "temperature": "hedgespec.sampling.temperature:Temperature",
        "top_k": "hedgespec.sampling.top_k:TopK",
        "top_p": "hedgespec.sampling.top_p:TopP",
    },
    subclass_of="hedgespec.sampling.parameter:SamplingParameter",
)
"""A class of sampling parameters by the client's name, see `hedgespec.sampling.parameter`; applied in this order."""


def learner_registry(name: str) -> Registry[Any]:
    """The registry that a name of a learner or bandit belongs to; built-in names of either win."""
    is_bandit = name in BANDITS.built_in or (name in BANDITS and name not in LEARNERS)
    return BANDITS if is_bandit else LEARNERS
