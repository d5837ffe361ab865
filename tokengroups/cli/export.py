"""`tokengroups export`: a scene as 3DGS PLY for other programs."""

from __future__ import annotations

import argparse
from pathlib import Path

from tokengroups.cli.output import print_json, say
from tokengroups.cli.text import add_text_encoder_option, label_groups, parse_vocabulary

HELP = "write a scene as 3DGS PLY with groups.json and cameras.json; with --groups also one PLY per group"
EXAMPLES = """\
  %(prog)s scene.safetensors -o scene.ply
  %(prog)s scene.safetensors -o scene.ply --groups groups      # groups/group_007.ply, groups/groups.json
  %(prog)s scene.safetensors -o scene.xyz --writer mypackage.points:save     # save(path, gaussians) writes the file
  %(prog)s scene.safetensors -o scene.ply --vocabulary chair,table,floor,wall    # groups.json has labels

The PLY opens in any 3DGS viewer (log scales, logit opacities, quaternions wxyz; OpenCV axes: y points down).
groups.json is for robots and language models: the Gaussians of each group, its name, label, upright box, relations
(on, inside, next to) and embedding; `tokengroups import` reads it back. Soft group probabilities, group tokens and the
residuals of semantics stay in the scene file."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("scene", help="scene file")
    parser.add_argument("-o", "--output", required=True, metavar="FILE.ply", help="file of the whole scene")
    parser.add_argument("--groups", metavar="DIR", help="also one such file per group in this folder")
    parser.add_argument("--vocabulary", metavar="NAMES", help="label each group with the best of these names (a,b,c)")
    parser.add_argument("--writer", metavar="MODULE:FUNCTION", help="write another format by a function of your own")
    add_text_encoder_option(parser)
    parser.add_argument("--json", action="store_true", help="print the list of files as JSON")


def run(args: argparse.Namespace) -> None:
    """Write the files."""
    from tokengroups.errors import UserError
    from tokengroups.io.files import check_folder, check_writable
    from tokengroups.scene import export_scene, load_scene, writer_for

    write = writer_for(args.output, args.writer or "")
    if args.text_encoder is not None and args.vocabulary is None:
        raise UserError("--text-encoder is for --vocabulary NAMES; give both or none")
    check_writable(args.output)
    if args.groups:
        check_folder(args.groups)
    scene = load_scene(args.scene)
    labels = names = None
    if args.vocabulary is not None:
        names = parse_vocabulary(args.vocabulary)
        labels = label_groups(scene, names, args.text_encoder)
    suffix = Path(args.output).suffix.lower()
    files = export_scene(scene, args.output, labels, names, write, args.groups)
    if args.json:
        print_json([str(path) for path in files])
        return
    say(f"wrote {files[0]} ({len(scene.gaussians.means):,} Gaussians), {files[1]}, {files[2]}")
    if args.groups:
        say(f"wrote {len(scene.group_ids)} group {suffix[1:].upper() or 'file'}s to {args.groups}")
