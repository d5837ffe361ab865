"""`tokengroups render`: pictures of a scene."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from tokengroups.cli.arguments import add_number
from tokengroups.cli.output import counted, note, print_json, progress
from tokengroups.errors import UserError

if TYPE_CHECKING:
    from tokengroups.scene import SceneView
    from tokengroups.types import Cameras, TokenScene

HELP = "render a scene: colour, depth and group maps as PNG"
EXAMPLES = """\
  %(prog)s scene.safetensors --camera context:0 -o out
  %(prog)s scene.safetensors --camera orbit:24:60 -o out --what color,depth,groups
  %(prog)s scene.safetensors --camera cameras.json -o out --size 512

cameras:  context (all), context:I, orbit:N (full turn), orbit:N:DEGREES (arc around the first view),
          or a cameras.json
files:    color_000.png
          depth_000.png: 16 bit, value / 1000 = depth in scene units, 0 = nothing; depth_preview_000.png
          groups_000.png: fixed colour per id, see legend.json; group_ids_000.png: 16 bit, id + 1, 0 = none
          cameras.json: the cameras that were used"""
KINDS = ("color", "depth", "groups")
MAX_SIDE_PX = 4096
MAX_FRAMES = 10000


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add = parser.add_argument
    add("scene", help="scene file")
    add("--camera", default="context", metavar="CAMERA", help="which views (default: all context views)")
    add("-o", "--output", required=True, metavar="DIR", help="folder for the pictures")
    add("--what", default="color", metavar="LIST", help="any of color,depth,groups (default: %(default)s)")
    size_help = "height of the pictures in pixels (default: the cameras' own)"
    add_number(parser, "--size", 1, MAX_SIDE_PX, metavar="PX", help=size_help)
    add("--background", default="black", metavar="COLOR", help="black, white or #rrggbb (default: %(default)s)")
    add("--json", action="store_true", help="print the list of files as JSON")


def run(args: argparse.Namespace) -> None:
    """Render and write the pictures."""
    import torch

    from tokengroups.io.cameras import save_cameras
    from tokengroups.io.files import make_folder
    from tokengroups.scene import load_scene, render_views

    kinds = [kind for kind in args.what.split(",") if kind]
    if not kinds or not set(kinds) <= set(KINDS):
        raise UserError(f"--what {args.what}: choose from {','.join(KINDS)}")
    background = torch.tensor(_parse_color(args.background))
    scene = load_scene(args.scene)
    cameras = _choose_cameras(scene, args.camera, args.size)
    folder = make_folder(args.output)
    files: list[Path] = []
    count, empty = len(cameras.intrinsics), 0
    for index, view in enumerate(progress(render_views(scene, cameras, background), count, "rendering")):
        files += _save_view(folder, f"{index:03d}", view, kinds)
        empty += not bool(view.alpha.any())
    if "groups" in kinds:
        files.append(_save_legend(folder, scene))
    save_cameras(folder / "cameras.json", cameras)
    files.append(folder / "cameras.json")
    _note_empty(empty, count)
    if args.json:
        print_json([str(path) for path in files])
    else:
        height, width = cameras.size_hw
        print(f"rendered {counted(count, 'view')} of {width}x{height} ({', '.join(kinds)})")
        print(f"wrote {len(files)} files to {folder}")


def _note_empty(empty: int, count: int) -> None:
    """Say that views show nothing at all, which on black looks like a failure."""
    if empty:
        what = "the view shows" if count == 1 else f"{empty} of {counted(count, 'view')} show"
        note(f"{what} no part of the scene: nothing visible is in front of the camera; choose another with --camera")


def _parse_color(text: str) -> list[float]:
    """Parse a colour, [0, 1], from a name or ``#rrggbb``."""
    digits = {"black": "#000000", "white": "#ffffff"}.get(text, text)
    try:
        if len(digits) != 7 or digits[0] != "#":
            raise ValueError
        return [value / 255 for value in bytes.fromhex(digits[1:])]
    except ValueError:
        raise UserError(f"--background {text}: give black, white or #rrggbb") from None


def _choose_cameras(scene: TokenScene, text: str, height: int | None) -> Cameras:
    """Make or load the cameras that ``--camera`` describes; a height in pixels replaces their own."""
    from tokengroups.io.cameras import load_cameras
    from tokengroups.scene.views import orbit_cameras, resize_cameras, select_cameras

    def whole(word: str, low: int, high: int) -> int:
        if not word.isdigit() or not low <= int(word) <= high:
            raise UserError(f"--camera {text}: '{word}' should be a whole number from {low} to {high}")
        return int(word)

    kind, *rest = text.split(":")
    if kind == "context" and len(rest) <= 1:
        count = len(scene.cameras.intrinsics)
        indices = [whole(rest[0], 0, count - 1)] if rest else list(range(count))
        cameras = select_cameras(scene.cameras, indices)
    elif kind == "orbit" and 1 <= len(rest) <= 2:
        degrees = whole(rest[1], 1, 360) if len(rest) == 2 else 360
        cameras = orbit_cameras(scene, whole(rest[0], 1, MAX_FRAMES), degrees)
    elif Path(text).suffix == ".json":
        cameras = load_cameras(text)
    else:
        raise UserError(f"--camera {text}: give context, context:I, orbit:N, orbit:N:DEGREES or a cameras.json")
    if height is not None:
        cameras = resize_cameras(cameras, height)
    if max(cameras.size_hw) > MAX_SIDE_PX:
        raise UserError(f"pictures of {cameras.size_hw[1]}x{cameras.size_hw[0]} are too large; lower them with --size")
    return cameras


def _save_view(folder: Path, number: str, view: SceneView, kinds: list[str]) -> list[Path]:
    """Write the pictures of one view; returns the files."""
    from tokengroups.io import pictures

    writers = {
        "color": {"color": pictures.save_color},
        "depth": {"depth": pictures.save_depth, "depth_preview": pictures.save_depth_preview},
        "groups": {"groups": pictures.save_group_colors, "group_ids": pictures.save_group_ids},
    }
    values = {"color": view.color, "depth": view.depth, "groups": view.group_map}
    files = []
    for kind in kinds:
        for name, save in writers[kind].items():
            files.append(folder / f"{name}_{number}.png")
            save(files[-1], values[kind])
    return files


def _save_legend(folder: Path, scene: TokenScene) -> Path:
    """Write ``legend.json``: id, name and colour of every group in the group maps."""
    from tokengroups.io.files import write_text
    from tokengroups.io.pictures import color_name, group_color
    from tokengroups.scene.groups import group_name

    legend = [
        {"id": group_id, "name": group_name(scene, column), "color": color_name(group_color(group_id))}
        for column, group_id in enumerate(scene.group_ids.tolist())
    ]
    path = folder / "legend.json"
    write_text(path, json.dumps(legend, indent=1) + "\n")
    return path
