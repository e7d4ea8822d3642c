"""The settings of a build of the zoo, and its presets."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from hedgespec.training.train_drafter import DrafterSettings
from hedgespec.zoo.train_target import TargetSettings


@dataclass(frozen=True, slots=True)
class ZooSettings:
    """The settings of one build.

    workers: processes of one thread each that train heads side by side; 1 trains them in this process
    """

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
        """The folder of intermediate results."""
        return self.out / ".build"


def preset_settings(
    preset: Literal["cpu", "gpu"], out: Path, seed: int = 0, *, workers: int = 1, target_minutes: float | None = None
) -> ZooSettings:
    """Return the settings of a preset; `gpu` trains the same shapes on more text for far more steps."""
    target = TargetSettings(seed=seed, minutes=target_minutes)
    # small heads: quick to draft with on a CPU, and too small to learn six domains as well as one
    drafter = DrafterSettings(seed=seed, draft_vocab_size=1024, intermediate_size=256)
    if preset == "cpu":
        return ZooSettings(out, seed, workers=workers, target=target, drafter=drafter)
    target = replace(target, device="cuda", steps=12_000, tokens_per_step=32_768)
    drafter = replace(
        drafter, device="cuda", steps=3_000, sequences_per_step=32, num_own_windows=16_384, start_share=1.0
    )
    return ZooSettings(out, seed, train_bytes=120_000_000, workers=workers, target=target, drafter=drafter)
