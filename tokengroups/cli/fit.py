"""`tokengroups fit`: posed photos with instance masks to a scene file, by optimisation."""

from __future__ import annotations

import argparse
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokengroups.cli.arguments import add_number
from tokengroups.cli.devices import add_device_option, pick_device
from tokengroups.cli.output import print_json
from tokengroups.errors import UserError

if TYPE_CHECKING:
    from tokengroups.data.example import Example
    from tokengroups.fitting import FitConfig, FitProgress, FitResult
    from tokengroups.io.points import PointCloud
    from tokengroups.types import TokenScene

HELP = "make a scene from photos with known cameras and instance masks, by optimisation; no weights needed"
EXAMPLES = """\
  %(prog)s photos/ --cameras transforms.json --masks masks/ -o scene.safetensors
  %(prog)s photos/ --cameras sparse/0 --masks masks/ -o scene.safetensors --size 512 --steps 7000
  %(prog)s capture/ -o scene.safetensors       # holds transforms.json or sparse/, images/ and masks/
  %(prog)s rooms/test_0_0 -o scene.safetensors --hold-out 4     # as `tokengroups data procedural` writes it

cameras:  transforms.json (NeRF, nerfstudio), a COLMAP model (extra `colmap`), or a cameras.json (3D Gaussian
          Splatting); pinhole photos only: undistort first, e.g. with `colmap image_undistorter`
masks:    one PNG per photo with its stem, 8 or 16-bit grey or palette; the value is the instance, the same in all
          photos, and becomes the group's id; photos without a mask teach colour only
start:    points of the COLMAP model, of transforms.json's ply_file_path or of --points; else a plane sweep over
          the photos finds some
The world of the scene is the first photo's camera, its unit that of the cameras."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add, add_limited = parser.add_argument, partial(add_number, parser)
    add("photos", nargs="*", metavar="PHOTO|DIR", help="photo files, or a folder of them or of a whole capture")
    add("--cameras", metavar="FILE|DIR", help="where their cameras are (default: found in the folder)")
    add("--masks", metavar="DIR", help="instance masks (default: the folder's own `masks`)")
    add("-o", "--out", required=True, type=Path, metavar="FILE", help="scene file to write")
    add_limited("--steps", 1, 1_000_000, default=2000, metavar="N", help="steps of one photo each (%(default)s)")
    add("--size", type=int, default=256, metavar="PX", help="longer side the photos are reduced to (%(default)s)")
    add_limited(
        "--num-gaussians", 1, 5_000_000, metavar="N", help="at most (default: one for every 16 pixels, up to 100,000)"
    )
    add("--sh-degree", type=int, default=0, choices=range(4), help="colours that change with direction (%(default)s)")
    add("--points", metavar="FILE.ply", help="points to begin with, in the cameras' world")
    add("--unlabelled", type=int, default=0, metavar="VALUE", help="mask value of no instance (%(default)s; -1 = none)")
    add_limited("--max-views", 1, 100_000, metavar="N", help="use at most N photos, evenly spaced (default: all)")
    add_limited("--hold-out", 2, 1000, metavar="N", help="keep every Nth photo out and report how well it is predicted")
    add_limited("--seed", 0, default=0, help="same seed, same scene on the same machine (%(default)s)")
    add_device_option(parser)
    add("--json", action="store_true", help="print the summary as JSON")


def run(args: argparse.Namespace) -> None:
    """Read the inputs, fit, write the scene."""
    from tokengroups.data.example import Example
    from tokengroups.data.readers.capture import find_capture
    from tokengroups.evaluation.fit import score_fit
    from tokengroups.fitting import FitConfig
    from tokengroups.io.files import check_writable
    from tokengroups.scene import save_scene

    check_writable(args.out)
    device = pick_device(args.device)
    capture = find_capture(args.photos, args.cameras, args.masks, args.points, args.unlabelled)
    capture = capture.evenly_spaced(args.max_views)
    views, paths, notes = capture.load(args.size)
    trained, held_out = _split(len(paths), args.hold_out)
    example = Example(views.select(trained), views.select(held_out), (capture.classes,), (capture.name,))
    names = [paths[i].name for i in trained]
    config = FitConfig(args.steps, args.num_gaussians, args.sh_degree, args.seed)
    result = _fit(example, capture.points, config, device, quiet=args.json)
    scene = _described(result.scene, capture.classes, names)
    save_scene(args.out, scene)
    summary = _summary(args.out, names, [*notes, *result.notes], scene, result)
    if held_out:
        scores = score_fit(result.scene, example.targets, result.to_scene(example.targets.cameras))
        summary["held_out"] = {"num_photos": len(held_out), **scores}
    if args.json:
        print_json(summary)
    else:
        print(_as_text(summary))


def _split(count: int, every: int | None) -> tuple[list[int], list[int]]:
    """Photos to train on, and every Nth one that is kept out; never the first, which is the world."""
    held_out = [] if every is None else list(range(every - 1, count, every))
    return [i for i in range(count) if i not in held_out], held_out


def _fit(example: Example, points: PointCloud | None, config: FitConfig, device: str, quiet: bool) -> FitResult:
    from tqdm import tqdm

    from tokengroups.fitting import fit_scene

    views = example.context
    if not bool((views.group_ids >= 0).any()):
        raise UserError("no photo that is trained on has a labelled pixel; keep fewer out")
    with tqdm(total=config.steps, desc="fitting", leave=False, delay=1.0, disable=quiet or None) as bar:

        def advance(now: FitProgress) -> None:
            if now.step % 20 == 0:
                bar.set_postfix(loss=f"{now.loss:.3f}", psnr=f"{now.psnr:.1f}", refresh=False)
            bar.update()

        return fit_scene(views.to(device), config, points, advance)


def _described(scene: TokenScene, classes: dict[int, str], photos: list[str]) -> TokenScene:
    """The scene with names of groups and photos; file names only, so that it tells nothing about the disk."""
    names = tuple(classes.get(group_id, "") for group_id in scene.group_ids.tolist())
    provenance = {**scene.provenance, "photos": photos}
    return replace(scene, provenance=provenance, group_names=names if any(names) else ())


def _summary(output: Path, photos: list[str], notes: list[str], scene: TokenScene, result: FitResult) -> dict[str, Any]:
    return {
        "scene": str(output),
        "photos": photos,
        "notes": notes,
        "size_hw": list(scene.cameras.size_hw),
        "psnr": round(sum(result.psnr) / len(result.psnr), 2),
        "num_groups": len(scene.group_ids),
        "num_gaussians": len(scene.gaussians.means),
        "steps": scene.provenance["steps"],
        "seconds": round(result.seconds, 2),
    }


def _as_text(summary: dict[str, Any]) -> str:
    height, width = summary["size_hw"]
    lines = [f"note: {note}" for note in summary["notes"]]
    lines.append(
        f"{len(summary['photos'])} photos at {width}x{height} -> {summary['num_groups']} groups, "
        f"{summary['num_gaussians']:,} Gaussians in {summary['seconds']:.1f} s ({summary['steps']:,} steps); "
        f"PSNR {summary['psnr']:.1f} dB on these photos"
    )
    if "held_out" in summary:
        held = summary["held_out"]
        ap = "unknown" if held["ap"] is None else f"{held['ap']:.2f} (AP25 {held['ap25']:.2f})"
        lines.append(f"{held['num_photos']} photos kept out: PSNR {held['psnr']:.1f} dB, AP of the masks {ap}")
    lines.append(f"wrote {summary['scene']}; next: tokengroups list {summary['scene']}")
    return "\n".join(lines)
