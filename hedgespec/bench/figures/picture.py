"""A picture: its numbers and how it is drawn. It is written as NAME.png with NAME.json beside it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hedgespec.bench.figures.source import Source
from hedgespec.errors import ConfigError

WIDTH_INCHES, DPI = 10.0, 160
FOOT_INCHES = 0.26
"""The height of the line below the layout that names the machine. Pictures are 1600 pixels wide with large text, because
a README shows them at half size."""

_STYLE = {
    "font.size": 13.0,
    "axes.titlesize": 14.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E5E5E5",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": 11.5,
    "legend.columnspacing": 1.2,
    "legend.handletextpad": 0.5,
    "lines.linewidth": 2.2,
}


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture that is WIDTH_INCHES wide. data: its numbers, as JSON; draw: draws them on a matplotlib Figure."""

    name: str
    title: str
    data: Mapping[str, Any]
    draw: Callable[[Any], None]
    height_inches: float = 5.6

    def write(self, folder: Path, source: Source) -> list[Path]:
        """Write and return the two files. Raises ConfigError without matplotlib."""
        try:
            import matplotlib
            from matplotlib.backends.backend_agg import FigureCanvasAgg
            from matplotlib.figure import Figure
            from matplotlib.layout_engine import ConstrainedLayoutEngine
        except ImportError as error:
            raise ConfigError("Pictures need matplotlib: pip install 'hedgespec[figures]'.") from error
        folder.mkdir(parents=True, exist_ok=True)
        image, numbers = folder / f"{self.name}.png", folder / f"{self.name}.json"
        with matplotlib.rc_context(_STYLE):
            foot = FOOT_INCHES / self.height_inches
            layout = ConstrainedLayoutEngine(rect=(0.005, foot, 0.985, 1.0 - foot))
            figure = Figure(figsize=(WIDTH_INCHES, self.height_inches), dpi=DPI, layout=layout)
            FigureCanvasAgg(figure)
            figure.suptitle(self.title, fontsize=15.0, fontweight="bold", x=0.01, ha="left")
            self.draw(figure)
            figure.text(0.995, 0.006, source.cpu, ha="right", va="bottom", fontsize=8.0, color="#888888")
            figure.savefig(image)
        content = {"title": self.title, "created": source.at("created"), "cpu": source.cpu, **self.data}
        numbers.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        return [image, numbers]


def legend_below(figure: Any, axes: Any, num_columns: int) -> None:
    """Put the legend of an axes below the picture."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=num_columns)


def marker_legend_below(figure: Any, axes: Any, faces: Mapping[str, str]) -> None:
    """Explain filled and open markers below the picture. faces: label -> colour inside the marker."""
    handles = [
        axes.plot([], [], "o", color="#444444", mfc=face, ms=9, mew=2, label=label)[0] for label, face in faces.items()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(faces))


def titled(subject: str, findings: Sequence[str], otherwise: str = "") -> str:
    """Return a title with the findings behind its subject, or with something else when there are none."""
    return f"{subject}: {', '.join(findings)}" if findings else subject + otherwise
