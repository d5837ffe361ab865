"""`tokengroups import`: 3DGS PLY files from elsewhere as a scene."""

from __future__ import annotations

import argparse

from tokengroups.cli.output import describe, print_json

HELP = "make a scene from 3DGS PLY files, one group per file"
EXAMPLES = """\
  %(prog)s splats/ -o scene.safetensors          # one group per PLY; groups.json or meta.json there counts
  %(prog)s room.ply -o scene.safetensors --fov 60

Cameras come from a cameras.json beside the files (3D Gaussian Splatting's format); else one camera is
made."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("source", metavar="DIR|FILE.ply", help="folder of PLY files, or one file")
    parser.add_argument("-o", "--output", required=True, metavar="SCENE", help="scene file to write")
    parser.add_argument(
        "--fov", type=float, metavar="DEG", help="field of view of the made camera (default: guessed)"
    )
    parser.add_argument("--size", type=int, metavar="PX", help="side of its picture (default: 256)")
    parser.add_argument(
        "--drop-invalid", action="store_true", help="leave out Gaussians with NaN or infinite values"
    )
    parser.add_argument("--json", action="store_true", help="print JSON for programs")


def run(args: argparse.Namespace) -> None:
    """Read the files and write the scene."""
    from tokengroups.errors import UserError
    from tokengroups.io.files import check_writable
    from tokengroups.scene import import_scene, save_scene

    if args.fov is not None and not 1 <= args.fov <= 170:
        raise UserError(f"--fov {args.fov:g}: choose 1 to 170 degrees")
    if args.size is not None and not 16 <= args.size <= 4096:
        raise UserError(f"--size {args.size}: choose 16 to 4096 pixels")
    check_writable(args.output)
    imported = import_scene(args.source, fov_degrees=args.fov, size=args.size, drop_invalid=args.drop_invalid)
    save_scene(args.output, imported.scene)
    if args.json:
        print_json(
            {
                "output": args.output,
                "groups": imported.scene.group_ids.tolist(),
                "notes": list(imported.notes),
            }
        )
        return
    for note in imported.notes:
        print(f"note: {note}")
    print(f"wrote {args.output}: {describe(imported.scene)}")
