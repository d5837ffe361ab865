"""`tokengroups export`: a scene as splats, or as photos with cameras and points, for other programs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from tokengroups.cli.output import print_json, progress, say
from tokengroups.cli.text import add_text_encoder_option, label_groups, parse_vocabulary
from tokengroups.errors import UserError

if TYPE_CHECKING:
    from tokengroups.scene.groups import GroupLabel
    from tokengroups.types import TokenScene

HELP = "write a scene as PLY, SPZ or GLB with groups.json and cameras.json, or as a COLMAP model or transforms.json"
EXAMPLES = """\
  %(prog)s scene.safetensors -o scene.ply
  %(prog)s scene.safetensors -o scene.ply --groups groups      # groups/group_007.ply, groups/groups.json
  %(prog)s scene.safetensors -o scene.ply --vocabulary chair,table,floor,wall    # groups.json has labels
  %(prog)s scene.safetensors -o scene.spz                      # a quarter of the size; a tenth with SH
  %(prog)s scene.safetensors -o scene.glb                      # glTF: one node per group
  %(prog)s scene.safetensors -o capture --format colmap --photos photos/         # images/, sparse/0/*.bin
  %(prog)s scene.safetensors -o capture --format transforms --photos photos/     # images/, transforms.json, points.ply
  %(prog)s scene.safetensors -o scene.xyz --writer mypackage.points:save     # save(path, gaussians) writes the file

files:    .ply  opens in any 3DGS viewer (log scales, logit opacities, quaternions wxyz; OpenCV axes: y points down)
          .spz  version 3, positions to a millionth of the scene, scales to 3 %%, all else in bytes; y up
          .glb  points that programs with KHR_gaussian_splatting show as splats; y up
          groups.json is for robots and language models: the Gaussians of each group, its name, label, upright box,
          relations (on, inside, next to) and embedding; `tokengroups import` reads it back. Soft group probabilities,
          group tokens and the residuals of semantics stay in the scene file.
folders:  colmap (.bin), colmap-text (.txt): pinhole cameras, images, points, as 3DGS, gsplat and COLMAP read them;
          transforms: nerfstudio's file, OpenGL axes. The world is the scene's. Cameras are for the whole photos as
          they are given, also where the scene saw a part of them; photos that EXIF turns are written upright."""
FORMATS = ("colmap", "colmap-text", "transforms")  # a copy of `tokengroups.scene.CAPTURES`: its import is slow


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("scene", help="scene file")
    parser.add_argument("-o", "--output", required=True, metavar="FILE|DIR", help="file of the whole scene, or folder")
    parser.add_argument("--format", choices=FORMATS, help="write a folder for reconstruction programs")
    photos_help = "the photos of the scene, copied beside their cameras (files or folders; found by their names)"
    parser.add_argument("--photos", nargs="+", metavar="PHOTO|DIR", help=photos_help)
    parser.add_argument("--groups", metavar="DIR", help="also one such file per group in this folder")
    parser.add_argument("--vocabulary", metavar="NAMES", help="label each group with the best of these names (a,b,c)")
    parser.add_argument("--writer", metavar="MODULE:FUNCTION", help="write another format by a function of your own")
    add_text_encoder_option(parser)
    parser.add_argument("--json", action="store_true", help="print the list of files as JSON")


def run(args: argparse.Namespace) -> None:
    """Write the files."""
    if args.text_encoder is not None and args.vocabulary is None:
        raise UserError("--text-encoder is for --vocabulary NAMES; give both or none")
    if args.format:
        for option in ("groups", "vocabulary", "writer"):
            if getattr(args, option) is not None:
                raise UserError(f"--{option} is for files of splats, not for --format {args.format}; leave it out")
        _export_capture(args)
    elif args.photos:
        raise UserError(f"--photos is for --format {' or '.join(FORMATS)}; files of splats have no photos")
    else:
        _export_splats(args)


def _export_capture(args: argparse.Namespace) -> None:
    from tokengroups.io.files import check_folder
    from tokengroups.scene import export_capture, load_scene

    check_folder(args.output)
    scene = load_scene(args.scene)
    done = export_capture(scene, args.output, args.format, args.photos or (), progress)
    if args.json:
        print_json([str(path) for path in done.files])
        return
    for note in done.notes:
        say(f"note: {note}")
    count = len(scene.cameras.intrinsics)
    say(f"wrote {', '.join(path.name for path in done.files if path.parent.name != 'images')} of {count} cameras")
    if args.photos:
        say(f"wrote {count} photos to {Path(args.output) / 'images'}")


def _export_splats(args: argparse.Namespace) -> None:
    from tokengroups.io.files import check_folder, check_writable
    from tokengroups.scene import export_scene, load_scene, writer_for

    write = writer_for(args.output, args.writer or "")
    check_writable(args.output)
    if args.groups:
        check_folder(args.groups)
    scene = load_scene(args.scene)
    labels, names = _labels(args, scene)
    files = export_scene(scene, args.output, labels, names, write, args.groups)
    if args.json:
        print_json([str(path) for path in files])
        return
    say(f"wrote {files[0]} ({len(scene.gaussians.means):,} Gaussians), {files[1]}, {files[2]}")
    if args.groups:
        suffix = Path(args.output).suffix.lower()
        say(f"wrote {len(scene.group_ids)} group {suffix[1:].upper() or 'file'}s to {args.groups}")


def _labels(args: argparse.Namespace, scene: TokenScene) -> tuple[list[GroupLabel] | None, list[str] | None]:
    """Labels of the groups and the names that they were chosen from, if the user asks for them."""
    if args.vocabulary is None:
        return None, None
    names = parse_vocabulary(args.vocabulary)
    return label_groups(scene, names, args.text_encoder), names
