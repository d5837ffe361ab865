"""`tokengroups render`: pictures of a scene."""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tokengroups.cli.arguments import add_number
from tokengroups.cli.output import counted, note, print_json, progress, say
from tokengroups.errors import UserError
from tokengroups.reading import path_kind, shown

if TYPE_CHECKING:
    from tokengroups.scene import SceneView
    from tokengroups.types import Cameras, TokenScene

HELP = "render a scene: colour, depth and group maps as PNG"
EXAMPLES = """\
  %(prog)s scene.safetensors --camera context:0 -o out
  %(prog)s scene.safetensors --camera orbit:24:60 -o out --what color,depth,groups
  %(prog)s scene.safetensors --camera cameras.json -o out --size 512
  %(prog)s fitted.safetensors --camera capture/transforms.json -o out

cameras:  context (all), context:I, orbit:N (full turn), orbit:N:DEGREES (arc around the first view), or a file:
          cameras.json, in the scene's world, as export and this command write it;
          transforms.json or the folder of a COLMAP model, in the world of the photos: a scene that `fit` made is
          seen as in the photos; other scenes must have that world, as splats made from these cameras have
files:    color_000.png
          depth_000.png: 16 bit, value / 1000 = depth in scene units, 0 = nothing; depth_preview_000.png
          depth.json: unit of each depth picture: 0.001, larger where depths do not fit
          groups_000.png: fixed colour per id, see legend.json; group_ids_000.png: 16 bit, id + 1, 0 = none
          (ids above 65534 have other values, see legend.json)
          cameras.json: the cameras that were used"""
KINDS = ("color", "depth", "groups")
MAX_SIDE_PX = 4096
MAX_PIXELS = 3 * 2**22  # 4096x3072, of one picture: rendering takes about 100 bytes a pixel and more with the groups
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
    background_help = "a name, #rrggbb, #rgb or red,green,blue of 0 to 255 (default: %(default)s)"
    add("--background", default="black", metavar="COLOR", help=background_help)
    add("--json", action="store_true", help="print the list of files as JSON")


def run(args: argparse.Namespace) -> None:
    """Render and write the pictures."""
    import torch

    from tokengroups.io.cameras import save_cameras
    from tokengroups.io.colors import parse_color
    from tokengroups.io.files import check_folder, staged_folder
    from tokengroups.io.pictures import id_values
    from tokengroups.scene import load_scene, render_views

    kinds = _parse_kinds(args.what)
    background = torch.tensor([value / 255 for value in parse_color(args.background, "--background")])
    check_folder(args.output)
    scene = load_scene(args.scene)
    cameras = _choose_cameras(scene, args.camera, args.size)
    files: list[Path] = []
    count, empty, units = len(cameras.intrinsics), 0, {}
    values = id_values(scene.group_ids.tolist()) if "groups" in kinds else {}
    with staged_folder(args.output) as folder:
        for index, view in enumerate(progress(render_views(scene, cameras, background), count, "rendering")):
            files += _save_view(folder, f"{index:03d}", view, kinds, values, units)
            empty += not bool(view.alpha.any())
        if "depth" in kinds:
            files.append(_save_units(folder, units))
        if "groups" in kinds:
            files.append(_save_legend(folder, scene, values))
        save_cameras(folder / "cameras.json", cameras)
        files.append(folder / "cameras.json")
    _note_empty(empty, count)
    if args.json:
        print_json([str(Path(args.output) / path.name) for path in files])
    else:
        height, width = cameras.size_hw
        say(f"rendered {counted(count, 'view')} of {width}x{height} ({', '.join(kinds)})")
        say(f"wrote {len(files)} files to {args.output}")


def _note_empty(empty: int, count: int) -> None:
    """Say that views show nothing at all, which on black looks like a failure."""
    if empty:
        what = "the view shows" if count == 1 else f"{empty} of {counted(count, 'view')} show"
        note(f"{what} no part of the scene: nothing visible is in front of the camera; choose another with --camera")


def _parse_kinds(text: str) -> list[str]:
    """Read the kinds of pictures, in any case, singular or plural, with commas or spaces between."""
    spellings = {word: kind for kind in KINDS for word in (kind, kind.removesuffix("s"), f"{kind}s")}
    spellings |= {"colour": "color", "colours": "color"}
    words = text.casefold().replace(",", " ").split()
    if not words or not set(words) <= set(spellings):
        raise UserError(f"--what {shown(text)}: choose from {','.join(KINDS)}")
    return list(dict.fromkeys(spellings[word] for word in words))


def _choose_cameras(scene: TokenScene, text: str, height: int | None) -> Cameras:
    """Make or load the cameras that ``--camera`` describes; a height in pixels replaces their own."""
    from tokengroups.scene.views import orbit_cameras, resize_cameras, select_cameras

    def whole(word: str, low: int, high: int) -> int:
        if not word.isdecimal() or len(word) > 9 or not low <= int(word) <= high:
            raise UserError(f"--camera {shown(text)}: '{shown(word)}' should be a whole number from {low} to {high}")
        return int(word)

    kind, *rest = text.split(":")
    if kind == "context" and len(rest) <= 1:
        count = len(scene.cameras.intrinsics)
        indices = [whole(rest[0], 0, count - 1)] if rest else list(range(count))
        cameras = select_cameras(scene.cameras, indices)
    elif kind == "orbit" and 1 <= len(rest) <= 2:
        degrees = whole(rest[1], 1, 360) if len(rest) == 2 else 360
        cameras = orbit_cameras(scene, whole(rest[0], 1, MAX_FRAMES), degrees)
    elif Path(text).suffix.lower() == ".json" or path_kind(text) in ("file", "folder"):
        cameras = _read_cameras(scene, text)
    else:
        kinds = "context, context:I, orbit:N, orbit:N:DEGREES, a cameras.json, a transforms.json or a COLMAP folder"
        raise UserError(f"--camera {shown(text)}: give {kinds}")
    if height is not None:
        cameras = resize_cameras(cameras, height)
    tall, wide = cameras.size_hw
    if max(tall, wide) > MAX_SIDE_PX or tall * wide > MAX_PIXELS:
        limits = f"at most {MAX_SIDE_PX} a side and {MAX_PIXELS / 1e6:.1f} megapixels; lower them with --size"
        raise UserError(f"pictures of {wide}x{tall} are too large: {limits}")
    return cameras


def _read_cameras(scene: TokenScene, text: str) -> Cameras:
    """Cameras of a file or COLMAP folder, in the scene's world."""
    import torch

    from tokengroups.io.camera_files import load_camera_set
    from tokengroups.io.cameras import same_size
    from tokengroups.scene import cameras_in_scene, world_from_scene

    found, of_photos = load_camera_set(Path(text), "--camera")
    if len(found.cameras) > MAX_FRAMES:
        raise UserError(f"--camera {shown(text)}: {len(found.cameras)} cameras, more than {MAX_FRAMES}; split the file")
    cameras, moved = same_size(text, found), world_from_scene(scene)
    return cameras_in_scene(cameras, moved) if of_photos and moved is not None else cameras.to(torch.float32)


def _save_view(
    folder: Path, number: str, view: SceneView, kinds: list[str], id_values: dict[int, int], units: dict[str, float]
) -> list[Path]:
    """Write the pictures of one view; adds the unit of its depth picture to `units` and returns the files."""
    from tokengroups.io import pictures

    writers = {
        "color": {"color": pictures.save_color},
        "depth": {"depth": pictures.save_depth, "depth_preview": pictures.save_depth_preview},
        "groups": {
            "groups": pictures.save_group_colors,
            "group_ids": partial(pictures.save_group_ids, values=id_values),
        },
    }
    values = {"color": view.color, "depth": view.depth, "groups": view.group_map}
    files = []
    for kind in kinds:
        for name, save in writers[kind].items():
            files.append(folder / f"{name}_{number}.png")
            unit = save(files[-1], values[kind])
            if unit is not None:
                units[files[-1].name] = unit
    return files


def _save_units(folder: Path, units: dict[str, float]) -> Path:
    """Write ``depth.json``: one step of each depth picture in scene units."""
    from tokengroups.io.files import write_text
    from tokengroups.io.pictures import DEPTH_UNIT

    coarse = {name: unit for name, unit in units.items() if unit != DEPTH_UNIT}
    if coarse:
        name, unit = max(coarse.items(), key=lambda item: item[1])
        pictures = counted(len(coarse), "depth picture")
        note(f"{pictures} with depths over 65.535 in a coarser unit, such as {unit:g} in {name}; depth.json has them")
    path = folder / "depth.json"
    write_text(path, json.dumps(units, indent=1) + "\n")
    return path


def _save_legend(folder: Path, scene: TokenScene, id_values: dict[int, int]) -> Path:
    """Write ``legend.json``: id, name, colour and value of every group in the group maps."""
    from tokengroups.io.files import write_text
    from tokengroups.io.pictures import color_name, group_color
    from tokengroups.scene.groups import group_name

    moved = sum(value != group_id + 1 for group_id, value in id_values.items())
    if moved:
        note(f"{counted(moved, 'id')} above 65534 with another value than id + 1 in group_ids_*.png; see legend.json")
    legend = [
        {
            "id": group_id,
            "name": group_name(scene, column),
            "color": color_name(group_color(group_id)),
            "value": id_values[group_id],
        }
        for column, group_id in enumerate(scene.group_ids.tolist())
    ]
    path = folder / "legend.json"
    write_text(path, json.dumps(legend, indent=1) + "\n")
    return path
