"""What a build of the zoo is made by."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from hedgespec.training.drafter import DrafterSettings
from hedgespec.zoo.target import TargetSettings


@dataclass(frozen=True, slots=True)
class ZooSettings:
    """One build. `workers`: processes of one thread each that make heads side by side; 1 makes them in this process."""

    out: Path
    seed: int = 0
    train_bytes: int = 29_000_000
    held_out_bytes: int = 150_000
    num_prompts: int = 32
    workers: int = 1
    target: TargetSettings = field(default_factory=TargetSettings)
    drafter: DrafterSettings = field(default_factory=DrafterSettings)

    @property
    def work(self) -> Path:
        return self.out / ".build"


def preset_settings(
    preset: Literal["cpu", "gpu"], out: Path, seed: int = 0, *, workers: int = 1, target_minutes: float | None = None
) -> ZooSettings:
    """Return the recipe of a preset; `gpu` trains the same shapes on more text for far more steps."""
    target = TargetSettings(seed=seed, minutes=target_minutes)
    # Small heads: quick to draft with on a CPU, and too small to know six domains as well as one.
    drafter = DrafterSettings(seed=seed, draft_vocab_size=1024, intermediate_size=256)
    if preset == "cpu":
        return ZooSettings(out, seed, workers=workers, target=target, drafter=drafter)
    target = replace(target, device="cuda", steps=12_000, tokens_per_step=32_768)
    drafter = replace(
        drafter, device="cuda", steps=3_000, sequences_per_step=32, num_own_windows=16_384, start_share=1.0
    )
    return ZooSettings(out, seed, train_bytes=120_000_000, target=target, drafter=drafter)
