"""`tokengroups render`: pictures of a scene."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tokengroups.cli.arguments import add_number
from tokengroups.cli.film import FPS, Film, add_film_options, film_writer, fit_cameras, parse_film, shown_size
from tokengroups.cli.output import counted, note, print_json, progress, say
from tokengroups.cli.view_cameras import MAX_SIDE_PX, Pace, choose_cameras, is_path_file
from tokengroups.errors import UserError
from tokengroups.reading import shown

if TYPE_CHECKING:
    from tokengroups.scene import SceneView
    from tokengroups.types import Cameras, TokenScene

HELP = "render a scene: colour, depth and group maps as PNG, and films"
EXAMPLES = """\
  %(prog)s scene.safetensors --camera context:0 -o out
  %(prog)s scene.safetensors --camera orbit:24:60 -o out --what color,depth,groups
  %(prog)s scene.safetensors --camera cameras.json -o out --size 512
  %(prog)s fitted.safetensors --camera capture/transforms.json -o out
  %(prog)s scene.safetensors --camera path.json --video out.mp4
  %(prog)s scene.safetensors --camera orbit:72 --video turn.gif --background white

cameras:  context (all), context:I, orbit:N (full turn), orbit:N:DEGREES (arc around the first view), or a file:
          cameras.json, in the scene's world, as export and this command write it;
          path.json, a smooth path through viewpoints, in the scene's world, as the page of `view` saves it;
          transforms.json or the folder of a COLMAP model, in the world of the photos: a scene that `fit` made is
          seen as in the photos; other scenes must have that world, as splats made from these cameras have
files:    color_000.png
          depth_000.png: 16 bit, value / 1000 = depth in scene units, 0 = nothing; depth_preview_000.png
          depth.json: unit of each depth picture: 0.001, larger where depths do not fit
          groups_000.png: fixed colour per id, see legend.json; group_ids_000.png: 16 bit, id + 1, 0 = none
          (ids above 65534 have other values, see legend.json)
          cameras.json: the cameras that were used
films:    .mp4: H.264, colours at half the resolution; .gif: repeats for ever, 256 colours, at most 480 pixels a side
          unless --size is given. A camera path has --fps frames a second, also of pictures; of other cameras every
          view is a frame"""
KINDS = ("color", "depth", "groups")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add = parser.add_argument
    add("scene", help="scene file")
    add("--camera", default="context", metavar="CAMERA", help="which views (default: all context views)")
    add("-o", "--output", metavar="DIR", help="folder for the pictures")
    add_film_options(parser)
    add("--what", default="color", metavar="LIST", help="any of color,depth,groups (default: %(default)s)")
    size_help = "height of the pictures in pixels (default: the cameras' own)"
    add_number(parser, "--size", 1, MAX_SIDE_PX, metavar="PX", help=size_help)
    background_help = "a name, #rrggbb, #rgb or red,green,blue of 0 to 255 (default: %(default)s)"
    add("--background", default="black", metavar="COLOR", help=background_help)
    add("--json", action="store_true", help="print the list of files as JSON")


def run(args: argparse.Namespace) -> None:
    """Render and write the pictures, the film, or both."""
    import torch

    from tokengroups.io.colors import parse_color
    from tokengroups.io.files import check_folder
    from tokengroups.scene import load_scene, render_views

    kinds = _parse_kinds(args.what)
    background = torch.tensor([value / 255 for value in parse_color(args.background, "--background")])
    film = parse_film(args, kinds)
    if args.output is not None:
        check_folder(args.output)
    pace, scene = _parse_pace(args, film), load_scene(args.scene)
    cameras = choose_cameras(scene, args.camera, args.size, pace)
    if film is not None:
        cameras = fit_cameras(film, cameras, resized=args.size is not None)
    pictures: list[Path] = []
    writers, empty, count = [], 0, len(cameras.intrinsics)
    with contextlib.ExitStack() as stack:
        if args.output is not None:
            writers.append(stack.enter_context(_picture_writer(args.output, scene, cameras, kinds, pictures)))
        if film is not None:
            writers.append(stack.enter_context(film_writer(film, scene, cameras, background)))
        for view in progress(render_views(scene, cameras, background), count, "rendering"):
            for write in writers:
                write(view)
            empty += not bool(view.alpha.any())
    _note_empty(empty, count)
    if args.json:
        print_json([str(path) for path in [*pictures, *([film.path] if film else [])]])
        return
    say(f"rendered {counted(count, 'view')} of {shown_size(cameras.size_hw)} ({', '.join(kinds)})")
    if pictures:
        say(f"wrote {len(pictures)} files to {args.output}")
    if film is not None:
        say(f"wrote {film.path} ({count / film.fps:.1f} s, {film.path.stat().st_size / 1e6:.1f} MB)")


def _parse_pace(args: argparse.Namespace, film: Film | None) -> Pace:
    """How many frames a camera path has; refuses options that would change nothing."""
    is_path = is_path_file(args.camera)
    if args.seconds is not None and not is_path:
        raise UserError("--seconds is the length of a camera path, and --camera is none; give --fps")
    if args.fps is not None and film is None and not is_path:
        raise UserError("--fps is for films and camera paths; give --video FILE")
    return Pace(film.fps if film else args.fps or FPS, args.seconds)


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


@contextlib.contextmanager
def _picture_writer(
    output: str, scene: TokenScene, cameras: Cameras, kinds: list[str], files: list[Path]
) -> Iterator[Callable[[SceneView], None]]:
    """Yield a function that writes the pictures of a view; in the end all `files` are there, listed, or none."""
    from tokengroups.io.cameras import save_cameras
    from tokengroups.io.files import staged_folder
    from tokengroups.io.pictures import id_values

    values = id_values(scene.group_ids.tolist()) if "groups" in kinds else {}
    numbers, units = itertools.count(), {}
    written: list[Path] = []
    with staged_folder(output) as folder:
        yield lambda view: written.extend(_save_view(folder, f"{next(numbers):03d}", view, kinds, values, units))
        if "depth" in kinds:
            written.append(_save_units(folder, units))
        if "groups" in kinds:
            written.append(_save_legend(folder, scene, values))
        save_cameras(folder / "cameras.json", cameras)
        written.append(folder / "cameras.json")
    files.extend(Path(output) / path.name for path in written)


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
