"""Learning curves of one training run, or of several that followed each other, as PNGs.

Run: ``python benchmarks/curves.py out/encoder out/groups_a out/groups_b --out docs/curves``.

Reads every run's ``metrics.jsonl``. One picture per quantity, against steps and against minutes: `loss.png` (as logged,
and its running mean), then what is held out: `psnr.png` and `ap.png` of runs that train token groups, `point_error.png`
and `rotation.png` of those that train an encoder, `focal.png` and `boundaries.png` of its single-view network. Runs are
stages, joined in the given order; their losses need not have the same terms. Minutes are those of training as logged,
evaluations and checkpoints included, stops not.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402
from matplotlib import ticker  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402

from tokengroups.errors import UserError  # noqa: E402
from tokengroups.training.log import read_metrics  # noqa: E402

BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#767676"  # told apart by colour-blind eyes too (Okabe and Ito)
HALF_WINDOW = 5  # rows on either side that a running mean takes in
LOSS_TICKS = (1, 1.5, 2, 3, 5, 7)  # of every decade, if there is about one
LETTERS = 56  # of a stage's name that fit above the whole axes
LEAST_SPAN = 1.0  # of an axis that does not start at zero: hundredths of a decibel are no news
STYLE: dict[Any, Any] = {
    "font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
    "grid.color": "#e4e4e4", "grid.linewidth": 0.6, "axes.axisbelow": True,
}  # fmt: skip


@dataclass(frozen=True)
class Line:
    """One number of the log in a picture."""

    key: str
    label: str
    color: str
    dashed: bool = False


@dataclass(frozen=True)
class Picture:
    """What is drawn into one file."""

    name: str
    title: str
    lines: tuple[Line, ...]
    from_zero: bool = True


LOSS = Picture("loss", "training loss", (Line("loss", "running mean", BLUE),), from_zero=False)
GROUPS = (
    Picture("psnr", "PSNR of held-out rooms (dB)", (Line("evaluate/psnr", "all", BLUE),), from_zero=False),
    Picture(
        "ap",
        "AP of held-out rooms",
        (
            Line("evaluate/ap_all", "all", BLUE),
            Line("evaluate/ap_objects", "objects", ORANGE),
            Line("evaluate/ap_all_oracle", "all, true groups of the same Gaussians", GREY, dashed=True),
        ),
    ),
)
ENCODER = (
    Picture(
        "point_error", "point error of held-out rooms / mean distance", (Line("evaluate/point_error", "all", BLUE),)
    ),
    Picture(
        "rotation",
        "rotation error of held-out rooms, camera head's, median (degrees)",
        (Line("evaluate/rotation_error_deg", "all", BLUE),),
    ),
)

SINGLE_VIEW = (
    Picture(
        "focal",
        "focal length from a single photo, mean error of its logarithm",
        (
            Line("evaluate/focal", "a photo", BLUE),
            Line("evaluate/focal_of_room", "the mean of a room's photos", ORANGE),
        ),
    ),
    Picture(
        "boundaries",
        "affinity of neighbouring cells, cross-entropy",
        (Line("evaluate/pair_affinity", "held-out rooms", BLUE),),
    ),
)


@dataclass(frozen=True)
class Stage:
    """A run's log, moved behind the stages before it."""

    name: str
    rows: list[dict[str, Any]]

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """Token groups report the frozen encoder's errors as well, with refined cameras: not its learning.

        The loss of a single-view network is a likelihood, which does not go with the others.
        """
        if any("evaluate/focal" in row for row in self.rows):
            return SINGLE_VIEW
        groups = any("evaluate/psnr" in row for row in self.rows)
        return (LOSS, *(GROUPS if groups else ENCODER))

    def steps(self) -> np.ndarray:
        """Of every row."""
        return np.array([row["step"] for row in self.rows], dtype=float)

    def minutes(self) -> np.ndarray | None:
        """As logged; of logs without times, from the speed of learning; None if there is neither."""
        if all("seconds" in row for row in self.rows):
            return np.array([row["seconds"] for row in self.rows]) / 60
        speeds = [row["steps_per_second"] for row in self.rows if "steps_per_second" in row]
        if not speeds:
            return None
        rows = zip(np.diff(self.steps(), prepend=0.0), self.rows, strict=True)
        mean = float(np.mean(speeds))  # where a row does not tell
        return np.cumsum([steps / row.get("steps_per_second", mean) for steps, row in rows]) / 60


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="output folders of training, in order")
    parser.add_argument("--out", type=Path, required=True, help="folder for the PNGs")
    args = parser.parse_args()
    for file in draw_curves(args.runs, args.out):
        print(f"wrote {file} ({file.stat().st_size / 1024:.0f} KB)")


def draw_curves(runs: Sequence[Path], out: Path) -> list[Path]:
    """Draw every picture that the runs have numbers for; returns the files."""
    stages = [Stage(run.name, read_metrics(run / "metrics.jsonl")) for run in runs]
    for run, stage in zip(runs, stages, strict=True):
        if not stage.rows:
            raise UserError(f"{run}: no metrics.jsonl with rows in it")
    out.mkdir(parents=True, exist_ok=True)
    files = []
    for picture in (LOSS, *GROUPS, *ENCODER, *SINGLE_VIEW):
        chosen = [stage for stage in stages if picture in stage.pictures and has_numbers(stage, picture)]
        if chosen:
            files.append(draw(picture, chosen, out / f"{picture.name}.png"))
    return files


def has_numbers(stage: Stage, picture: Picture) -> bool:
    return any(line.key in row for line in picture.lines for row in stage.rows)


def draw(picture: Picture, stages: Sequence[Stage], file: Path) -> Path:
    """One picture: against steps, and beside it against minutes if all stages know them."""
    axes_of = {"steps": [stage.steps() for stage in stages]}
    minutes = [stage.minutes() for stage in stages]
    if all(each is not None for each in minutes):
        axes_of["minutes"] = [each for each in minutes if each is not None]
    else:
        print(f"{file.name}: no times in a log; against steps only")
    with plt.rc_context(STYLE):
        figure, panels = plt.subplots(
            1, len(axes_of), figsize=(8, 3), dpi=100, sharey=True, squeeze=False, layout="constrained"
        )
        for axes, (unit, positions) in zip(panels[0], axes_of.items(), strict=True):
            draw_stages(axes, picture, stages, positions)
            axes.set_xlabel(unit)
        set_range(panels[0][0], picture)
        figure.suptitle(picture.title, x=0.01, ha="left", fontsize=10, fontweight="bold")
        if len(picture.lines) > 1 or picture is LOSS:
            handles, labels = panels[0][0].get_legend_handles_labels()
            figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
        figure.savefig(file)
        plt.close(figure)
    return file


def set_range(axes: Axes, picture: Picture) -> None:
    """Of the vertical axis; losses get a logarithmic one."""
    low, high = axes.dataLim.intervaly
    if picture.from_zero:
        axes.set_ylim(0, 1.1 * high or 1)
    elif picture is not LOSS and high - low < LEAST_SPAN:
        axes.set_ylim((low + high - LEAST_SPAN) / 2, (low + high + LEAST_SPAN) / 2)
    elif picture is LOSS and low > 0:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(ticker.LogLocator(subs=LOSS_TICKS if high < 10 * low else (1, 3)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(ticker.NullFormatter())


def draw_stages(axes: Axes, picture: Picture, stages: Sequence[Stage], positions: Sequence[np.ndarray]) -> None:
    """The stages one after another, each named at its start, with a line between them."""
    ends = np.cumsum([0.0, *(each[-1] for each in positions)])
    for index, (stage, own) in enumerate(zip(stages, positions, strict=True)):
        for line in picture.lines:
            at = [row for row, values in enumerate(stage.rows) if line.key in values]
            values = np.array([stage.rows[row][line.key] for row in at], dtype=float)
            draw_line(axes, line, ends[index] + own[at], values, label=index == 0)
        if index > 0:
            axes.axvline(ends[index], color=GREY, linewidth=0.8)
        letters = int(LETTERS * own[-1] / max(ends[-1], 1e-9))
        name = stage.name if len(stage.name) <= letters else f"{stage.name[: max(letters - 1, 0)]}…"
        axes.annotate(
            name, (ends[index], 1), (3, 2), xycoords=("data", "axes fraction"), textcoords="offset points",
            fontsize=8, color="#444444",
        )  # fmt: skip
    axes.set_xlim(0, ends[-1] * 1.02)


def draw_line(axes: Axes, line: Line, x: np.ndarray, values: np.ndarray, label: bool) -> None:
    """Held-out numbers as dots with lines; the loss faint, under its running mean."""
    name = line.label if label else None
    if line.key == "loss":
        axes.plot(x, values, color=line.color, alpha=0.25, linewidth=0.8, label="as logged" if label else None)
        axes.plot(x, running_mean(values), color=line.color, linewidth=1.6, label=name)
        return
    style = "--" if line.dashed else "-"
    axes.plot(x, values, style, marker="o", markersize=3.5, color=line.color, linewidth=1.4, label=name)


def running_mean(values: np.ndarray, half_window: int = HALF_WINDOW) -> np.ndarray:
    """Mean over as many rows before as after, fewer near the ends: it lags behind nothing."""
    reach = [min(row, len(values) - 1 - row, half_window) for row in range(len(values))]
    return np.array([values[row - each : row + each + 1].mean() for row, each in enumerate(reach)])


if __name__ == "__main__":
    main()
