"""`tokengroups import`: files of splats to a scene file."""

from __future__ import annotations

import argparse

from tokengroups.cli.arguments import add_number
from tokengroups.cli.output import describe, print_json, say

HELP = "make a scene from files of splats (PLY, compressed PLY, SPZ, SOG, .splat, .ksplat), one group per file"
EXAMPLES = """\
  %(prog)s splats/ -o scene.safetensors          # one group per PLY, or as a groups.json or meta.json there says
  %(prog)s room.ply -o scene.safetensors --fov 60
  %(prog)s room.compressed.ply -o scene.safetensors      # also room.spz, room.splat, room.ksplat, room.sog
  %(prog)s room_sog/ -o scene.safetensors                # an unpacked SOG: meta.json and its pictures

Files are known by their beginning, or by their suffix where they have none of their own. SPZ is turned from y up to
y down; version 4 needs the extra `spz`. The others keep their axes, which are those of 3DGS PLY files. Colours keep
spherical harmonics up to degree 3. A folder's packed files count where it holds no PLY.
Cameras come from a cameras.json beside the files (3D Gaussian Splatting's format); without it one camera is made."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("source", metavar="DIR|FILE", help="one file, or a folder of files")
    parser.add_argument("-o", "--output", required=True, metavar="SCENE", help="scene file to write")
    fov_help = "field of view of the made camera in degrees (default: guessed)"
    add_number(parser, "--fov", 1, 170, kind=float, metavar="DEG", help=fov_help)
    add_number(parser, "--size", 16, 2048, metavar="PX", help="side of its picture in pixels (default: 256)")
    parser.add_argument("--drop-invalid", action="store_true", help="leave out Gaussians with NaN or extreme values")
    parser.add_argument("--json", action="store_true", help="print JSON for programs")


def run(args: argparse.Namespace) -> None:
    """Read the files and write the scene."""
    from tokengroups.io.files import check_scene_name
    from tokengroups.scene import import_scene, save_scene

    check_scene_name(args.output)
    imported = import_scene(args.source, fov_degrees=args.fov, size=args.size, drop_invalid=args.drop_invalid)
    save_scene(args.output, imported.scene)
    if args.json:
        print_json({"output": args.output, "groups": imported.scene.group_ids.tolist(), "notes": list(imported.notes)})
        return
    for note in imported.notes:
        say(f"note: {note}")
    say(f"wrote {args.output}: {describe(imported.scene)}")
