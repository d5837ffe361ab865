"""`tokengroups fit`: posed photos, as a rule with instance masks, to a scene file, by optimisation."""

from __future__ import annotations

import argparse
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokengroups.cli.arguments import (
    add_device_option,
    add_ignore_option,
    add_megapixels_option,
    add_number,
    pick_device,
)
from tokengroups.cli.output import print_summary, scene_summary
from tokengroups.errors import UserError
from tokengroups.reading import shown

if TYPE_CHECKING:
    from tokengroups.fitting import FitConfig, FitProgress, FitResult
    from tokengroups.io.points import PointCloud
    from tokengroups.types import TokenScene, Views

HELP = "make a scene from photos with given cameras and perhaps masks, by optimisation; no weights needed"
EXAMPLES = """\
  %(prog)s photos/ --cameras transforms.json --masks masks/ -o scene.safetensors
  %(prog)s photos/ --cameras sparse/0 --masks masks/ -o scene.safetensors --size 512 --steps 7000
  %(prog)s photos/ --cameras sparse/0 --ignore people/ -o scene.safetensors   # masks of who walked through: 0
  %(prog)s capture/ -o scene.safetensors       # holds transforms.json or sparse/, images/ and masks/
  %(prog)s rooms/test_0_0 -o scene.safetensors --hold-out 4     # as `tokengroups data procedural` writes it

cameras:  transforms.json (NeRF, nerfstudio), a COLMAP model (text or binary), or a cameras.json (3D Gaussian
          Splatting); lens distortion is undone: COLMAP's RADIAL, OPENCV and fisheye models, k1 to k4, p1, p2
masks:    one PNG per photo, laid out like the photos (masks/cam0/000.png for images/cam0/000.png) or with a stem
          that no other photo has; 8 or 16-bit grey or palette; the value is the instance, the same in all photos,
          and becomes the group's id; photos without a mask fit the colours only; without any mask the groups are
          clusters of positions
photos:   transparent pixels count as white
ignore:   one PNG per photo, named like the masks: pixels of value 0 (black) teach nothing
start:    points of the COLMAP model, of transforms.json's ply_file_path or of --points; else a plane sweep over
          the photos finds them
The world of the scene is the first photo's camera; its unit is that of the cameras."""

_LARGEST_MASK_VALUE = 2**31 - 1


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add, add_limited = parser.add_argument, partial(add_number, parser)
    add("photos", nargs="*", metavar="PHOTO|DIR", help="photo files, or a folder of them or of a whole capture")
    add("--cameras", metavar="FILE|DIR", help="their cameras (default: found in the folder)")
    add("--masks", metavar="DIR", help="instance masks (default: the folder's own `masks`)")
    add_ignore_option(parser)
    add("-o", "--out", required=True, type=Path, metavar="FILE", help="scene file to write")
    add_limited("--steps", 1, 1_000_000, default=2000, metavar="N", help="steps of one photo each (%(default)s)")
    size_help = "longer side the photos are reduced to (%(default)s)"
    add_limited("--size", 32, 2560, default=256, metavar="PX", help=size_help)
    number_help = "at most (default: one for every 16 pixels, up to 100,000)"
    add_limited("--num-gaussians", 1, 5_000_000, metavar="N", help=number_help)
    add("--sh-degree", type=int, default=0, choices=range(4), help="colours that change with direction (%(default)s)")
    add("--points", metavar="FILE.ply", help="points to begin with, in the cameras' world")
    unlabelled_help = "mask values of no instance, with commas between (default: 0; -1 = none); may be repeated"
    add("--unlabelled", type=_mask_values, action="extend", metavar="VALUES", help=unlabelled_help)
    add_limited("--max-views", 1, 100_000, metavar="N", help="use at most N photos, evenly spaced (default: all)")
    add_megapixels_option(parser)
    add_limited("--hold-out", 2, 1000, metavar="N", help="keep every Nth photo out; report how well it is predicted")
    add_limited("--seed", 0, 2**63 - 1, default=0, help="same seed, same scene on the same machine (%(default)s)")
    add_device_option(parser)
    add("--json", action="store_true", help="print the summary as JSON")


def run(args: argparse.Namespace) -> None:
    """Read the inputs, fit, write the scene."""
    from tokengroups.data.readers.capture import find_capture
    from tokengroups.evaluation.fit import score_fit
    from tokengroups.fitting import FitConfig
    from tokengroups.io.files import check_scene_name
    from tokengroups.io.scene_photos import whole_photo_record
    from tokengroups.scene import save_scene

    check_scene_name(args.out)
    device = pick_device(args.device)
    capture = find_capture(args.photos, args.cameras, args.masks, args.points, args.unlabelled or (0,))
    capture = capture if args.ignore is None else capture.ignoring(args.ignore)
    capture = capture.evenly_spaced(args.max_views)
    views, paths, notes = capture.load(args.size, args.max_megapixels)
    indices, every = range(len(paths)), args.hold_out
    held_out = [] if every is None else list(indices[every - 1 :: every])  # never the first, which is the world
    trained = [index for index in indices if index not in held_out]
    names = [paths[index].name for index in trained]
    targets = views.select(held_out)
    context = views.select(trained) if held_out else views  # a copy of all would take as much memory again
    config = FitConfig(args.steps, args.num_gaussians, args.sh_degree, args.seed)
    if capture.masks is not None and not bool((context.group_ids >= 0).any()):
        raise UserError("no photo that is trained on has a labelled pixel; keep fewer out")
    result = _fit(context.to(device), capture.points, config, quiet=args.json)
    lenses, cameras = {path: camera.lens for path, camera in capture.pairs}, views.cameras
    photos = [
        whole_photo_record(paths[i].name, lenses[paths[i]], cameras.intrinsics[i], cameras.size_hw) for i in trained
    ]
    scene = _described(result.scene, capture.classes, photos)
    save_scene(args.out, scene)
    summary = scene_summary(args.out, scene, names, [*notes, *result.notes], result.seconds)
    summary |= {"psnr": round(sum(result.psnr) / len(result.psnr), 2), "steps": scene.provenance["steps"]}
    details = f" ({summary['steps']:,} steps); PSNR {summary['psnr']:.1f} dB on these photos"
    if held_out:
        scores = score_fit(result.scene, targets, result.to_scene(targets.cameras))
        summary["held_out"] = {"num_photos": len(held_out), **scores}
        ap = "unknown" if scores["ap"] is None else f"{scores['ap']:.2f} (AP25 {scores['ap25']:.2f})"
        details += f"\n{len(held_out)} photos kept out: PSNR {scores['psnr']:.1f} dB, AP of the masks {ap}"
    print_summary(summary, args.json, details)


def _mask_values(text: str) -> list[int]:
    """Parse whole numbers with commas between."""
    words = text.split(",")
    try:
        values = [int(word) for word in words]
    except ValueError:
        values = []
    if not values or not all(-1 <= value <= _LARGEST_MASK_VALUE for value in values):
        raise UserError(f"--unlabelled {shown(text)}: give mask values with commas between, such as 0,255; -1 = none")
    return values


def _described(scene: TokenScene, classes: dict[int, str], photos: list[Any]) -> TokenScene:
    """Add names of groups, and of photos with their lenses: a shared scene does not reveal the folders of this disk."""
    names = tuple(classes.get(group_id, "") for group_id in scene.group_ids.tolist())
    provenance = {**scene.provenance, "photos": photos}
    return replace(scene, provenance=provenance, group_names=names if any(names) else ())


def _fit(views: Views, points: PointCloud | None, config: FitConfig, quiet: bool) -> FitResult:
    from tqdm import tqdm

    from tokengroups.fitting import fit_scene

    with tqdm(total=config.steps, desc="fitting", leave=False, delay=1.0, disable=quiet or None) as bar:

        def advance(now: FitProgress) -> None:
            if now.step % 20 == 0:
                bar.set_postfix(loss=f"{now.loss:.3f}", psnr=f"{now.psnr:.1f}", refresh=False)
            bar.update()

        return fit_scene(views, config, points, advance)
