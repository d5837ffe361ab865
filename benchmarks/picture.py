"""The picture of the README: photos -> a new view -> its groups -> the scene edited, every panel made by the package.

Run: ``python benchmarks/picture.py [--weights token_groups_tiny] [--rooms 101:7 102:3] [--remove 4 9] [--move 2 6]
--out docs/overview.png``. A room is the seed and index of a held-out procedural room; without ``--remove`` and
``--move`` the two most visible groups that look like objects are taken.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass
from pathlib import Path

import matplotlib
import numpy as np
import torch
from torch import Tensor

matplotlib.use("Agg")

from matplotlib.figure import Figure

from tokengroups.cli.demo_steps import likely_objects
from tokengroups.data.procedural import generate_room
from tokengroups.editing import move, remove
from tokengroups.io.pictures import group_color
from tokengroups.models import load_model
from tokengroups.scene.groups import summarise
from tokengroups.scene.views import render_views, select_cameras, visible_shares
from tokengroups.types import TokenScene

SHIFT = 0.25  # of a moved group, to the side, as a part of its distance from the first camera
TITLES = ("photo", "photo", "rendered", "groups", "one removed", "one moved")


@dataclass(frozen=True)
class Choice:
    """Ids of the groups that are edited."""

    remove: int
    move: int


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", default="token_groups_tiny")
    parser.add_argument("--rooms", nargs="+", default=["101:0", "101:1"], metavar="SEED:INDEX")
    parser.add_argument("--remove", nargs="+", type=int, metavar="ID", help="of every room")
    parser.add_argument("--move", nargs="+", type=int, metavar="ID", help="of every room")
    parser.add_argument("--out", type=Path, default=Path("docs/overview.png"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    model = load_model(args.weights)
    rows = []
    for number, room in enumerate(args.rooms):
        seed, index = map(int, room.split(":"))
        frames = generate_room(seed, index, "test", num_views=5, size=model.image_size)
        photos = torch.from_numpy(frames.images[[1, 3]].copy()).float() / 255
        with torch.no_grad():
            scene = model.reconstruct(photos.movedim(-1, 1))
        choice = choose(scene)
        choice = Choice(
            args.remove[number] if args.remove else choice.remove,
            args.move[number] if args.move else choice.move,
        )
        print(f"room {room}: group {choice.remove} removed, group {choice.move} moved")
        rows.append([*photos, *panels(scene, choice)])
    draw(rows, args.out)
    print(f"wrote {args.out}")


def choose(scene: TokenScene) -> Choice:
    """The two groups that look most like objects."""
    objects = likely_objects([asdict(group) for group in summarise(scene, visible_shares(scene))])
    return Choice(objects[0]["id"], objects[min(1, len(objects) - 1)]["id"])


def panels(scene: TokenScene, choice: Choice) -> list[Tensor]:
    """View of the first camera: colours, groups, and both edits."""
    camera = select_cameras(scene.cameras, [0])
    distance = scene.gaussians.means[:, 2].median().item()
    moved = move(scene, choice.move, (SHIFT * distance, 0.0, 0.0))
    (view,) = render_views(scene, camera)
    (without,) = render_views(remove(scene, [choice.remove]), camera)
    (shifted,) = render_views(moved, camera)
    ids = view.group_map.numpy()
    table = {group: group_color(int(group)) for group in np.unique(ids)}
    colors = np.stack([table[group] for group in ids.reshape(-1)]).reshape(*ids.shape, 3)
    groups = torch.from_numpy(colors).float() / 255
    return [view.color, groups, without.color, shifted.color]


def draw(rows: list[list[Tensor]], path: Path) -> None:
    """One line of panels a room, arrows between what goes in and what comes out."""
    columns = len(TITLES)
    figure = Figure(figsize=(2.0 * columns, 2.06 * len(rows) + 0.25), dpi=130)
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for line, row in zip(axes, rows, strict=True):
        for place, picture in zip(line, row, strict=True):
            place.imshow(picture.clamp(0, 1).numpy(), interpolation="bicubic")
            place.set_axis_off()
    for place, title in zip(axes[0], TITLES, strict=True):
        place.set_title(title, fontsize=11)
    figure.subplots_adjust(0.004, 0.004, 0.996, 1 - 0.28 / (2.06 * len(rows) + 0.25), 0.03, 0.03)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


if __name__ == "__main__":
    main()
