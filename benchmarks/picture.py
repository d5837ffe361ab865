"""The picture of the README: photos -> a new view -> its groups -> the scene edited, every panel made by the package.

Run: ``python benchmarks/picture.py [--weights token_groups_tiny] [--rooms 103:2 102:0] [--groups 13 13]
[--out docs/overview.png]``. A room is the seed and index of a held-out procedural room; its group, by default the most
visible one that looks like an object, is removed in one panel and moved in the next.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

import matplotlib
import torch
from torch import Tensor

matplotlib.use("Agg")

from matplotlib.figure import Figure

from tokengroups.cli.demo.rooms import likely_objects
from tokengroups.data.augment import to_views
from tokengroups.data.procedural import generate_room
from tokengroups.editing import move, remove
from tokengroups.io.pictures import group_colors
from tokengroups.postprocess.full_photos import resized_cameras
from tokengroups.scene.groups import summarise
from tokengroups.scene.views import render_views, select_cameras, visible_shares
from tokengroups.systems import load_model
from tokengroups.types import TokenScene

SHIFT = 0.25  # of the moved group, to the right, as a part of the scene's median depth
FULL_SIZE = 512  # pixels a side of the photos, of which the encoder reads a smaller copy, and of the views
TITLES = ("photo", "photo", "rendered", "groups", "removed", "moved")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="token_groups_tiny")
    parser.add_argument("--rooms", nargs="+", type=room, default=[(103, 2), (102, 0)], metavar="SEED:INDEX")
    parser.add_argument("--groups", nargs="+", type=int, metavar="ID", help="one of every room")
    parser.add_argument("--out", type=Path, default=Path("docs/overview.png"))
    args = parser.parse_args()
    if args.groups and len(args.groups) != len(args.rooms):
        parser.error(f"--groups needs one id for each of the {len(args.rooms)} rooms, got {len(args.groups)}")
    torch.set_num_threads(1)
    model = load_model(args.weights)
    rows = []
    for number, (seed, index) in enumerate(args.rooms):
        frames = generate_room(seed, index, "test", num_views=5, size=FULL_SIZE)
        photos, full = (to_views(frames, (1, 3), size).images for size in (model.image_size, FULL_SIZE))
        with torch.no_grad():
            scene = model.reconstruct(photos, full_photos=full)
        group = args.groups[number] if args.groups else most_visible_object(scene)
        if group not in scene.group_ids:
            known = ", ".join(map(str, scene.group_ids.tolist()))
            parser.error(f"room {seed}:{index} has no group {group}; its groups are {known}")
        print(f"room {seed}:{index}: group {group} removed and moved")
        rows.append([*full.movedim(1, -1), *panels(scene, group)])
    draw(rows, args.out)
    print(f"wrote {args.out}")


def room(text: str) -> tuple[int, int]:
    """Seed and index of a room."""
    try:
        seed, index = (int(part) for part in text.split(":"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not of the form SEED:INDEX, like 103:2") from None
    return seed, index


def most_visible_object(scene: TokenScene) -> int:
    """The group that looks most like an object."""
    return likely_objects([asdict(group) for group in summarise(scene, visible_shares(scene))])[0]["id"]


def panels(scene: TokenScene, group: int) -> list[Tensor]:
    """View of the first camera: colours, groups, and both edits of a group."""
    camera = resized_cameras(select_cameras(scene.cameras, [0]), (FULL_SIZE, FULL_SIZE))
    shift = SHIFT * scene.gaussians.means[:, 2].median().item()
    edited = scene, remove(scene, [group]), move(scene, group, (shift, 0.0, 0.0))
    view, without, shifted = (next(iter(render_views(each, camera))) for each in edited)
    groups = torch.from_numpy(group_colors(view.group_map)).float() / 255
    return [view.color, groups, without.color, shifted.color]


def draw(rows: list[list[Tensor]], path: Path) -> None:
    """One line of panels a room."""
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
