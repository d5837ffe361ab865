"""`tokengroups segment`: photos of a room to instance masks that are the same in all of them."""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokengroups.cli import cost
from tokengroups.cli import photos as photo_options
from tokengroups.cli.arguments import add_model_options, add_number, adjust_model, load_model_and_steps, pick_device
from tokengroups.cli.output import counted, print_json, progress, say
from tokengroups.reading import check_file, shown

if TYPE_CHECKING:
    from tokengroups.postprocess import Step
    from tokengroups.segmentation import Segmentation
    from tokengroups.systems import SceneSystem

HELP = "make instance masks of photos of a room, the same ids in all photos, with cameras and depth"
EXAMPLES = """\
  %(prog)s photos/ -o masks_of_room/ --weights iggt_tiny
  %(prog)s photos/ -o masks_of_room/ --weights iggt_tiny --granularity 0.3 --video      # smaller things
  %(prog)s room.mp4 -o masks_of_room/ --weights iggt_tiny --frames sharp --max-views 32  # sharp frames of a video
  %(prog)s photos/ -o masks_of_room/ --weights iggt_tiny --ignore people/               # masks of who walked through
  %(prog)s photos/ -o masks_of_room/ --weights segvggt_tiny --score 0.3                 # with class names; surer ones
  %(prog)s photos/ -o masks_of_room/ --weights iggt_checkpoint.pth                      # as its authors published it
  tokengroups fit photos/ --cameras masks_of_room/cameras.json --masks masks_of_room/masks -o scene.safetensors

files:    masks/NAME.png: 16 bit, of the whole upright photo, value = id + 1, 0 = none: what a network did not see, as
          it takes the central square, has no instance; `tokengroups fit` takes them, with the values as ids
          instances.json: ids, values, names where the system has some, scores, colours, pixels and boxes by photo,
          sizes and crops of the photos
          cameras.json: cameras of the whole photos; depth/NAME.png: 16 bit, value x depth_unit (see instances.json) = z
          frames/VIDEO_000123.png: the frames of a video that were taken, by their numbers from 0
          overlays/NAME.jpg, contact_sheet.jpg: the masks over the photos, for people; overlays.mp4 with --video
          NAME is the photo's, without suffix (with it, where two photos share the rest), in folders like the photos'
Systems that segment photos, such as iggt_tiny and segvggt_tiny, show their own masks. Those of others show the groups
of the scene."""
GRANULARITY = 1e-3, 2  # bounds of `ClusteringConfig.granularity`
MAX_VIEWS = 64
FRAMES = "frames"  # of videos, in the folder


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    photo_options.add_photos(parser)
    parser.add_argument("-o", "--out", required=True, type=Path, metavar="DIR", help="folder for the files")
    granularity_help = "of systems that cluster: smaller values make smaller instances (the weights' own)"
    options: dict[str, Any] = {"kind": float, "metavar": "G", "help": granularity_help}
    add_number(parser, "--granularity", *GRANULARITY, **options)
    score_help = "of systems with object queries: keep masks with scores above S, from 0 to 1 (the weights' own)"
    add_number(parser, "--score", 0, 1, kind=float, metavar="S", help=score_help)
    parser.add_argument("--video", action="store_true", help="also write the overlays as an MP4 (extra `video`)")
    photo_options.add_photo_options(parser, MAX_VIEWS)
    add_model_options(parser)
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")


def run(args: argparse.Namespace) -> None:
    """Find the photos or frames of videos, segment them."""
    from tokengroups.io.files import check_folder
    from tokengroups.io.video import check_video

    if args.video:
        check_video()
    check_folder(args.out)
    with photo_options.given_photos(args, args.photos, args.out / FRAMES) as (paths, notes):
        _segment(args, paths, notes)


def _segment(args: argparse.Namespace, given: list[Path], notes: list[str]) -> None:
    """Load photos and weights, segment, write the folder."""
    from tokengroups.io.images import chosen_photos
    from tokengroups.segmentation import check_place, overlap_notes, plan_layout, segment_photos, write_segmentation

    paths, repeated = _each_once(given)
    layout = plan_layout(paths)
    check_place(args.out, layout, chosen_photos(paths, args.max_views), args.video)
    device = pick_device(args.device)
    model, steps = load_model_and_steps(args, device)
    adjusted = adjust_model(model, args.weights, granularity=args.granularity, score=args.score)
    photos, intrinsics, more = photo_options.load(args, paths, model, device)
    height, width = photos.images.shape[-2:]
    cost.announce(model, len(photos.photos), (height, width), device)
    mask, full = (None if each is None else each.to(device) for each in (photos.mask, photos.full_images))
    found = segment_photos(model, photos.images.to(device), intrinsics, steps, args.seed, mask, full)
    names = [shown(layout.photos[photo.path]) for photo in photos.photos]
    notes = [*notes, *repeated, *more, *_stem_notes(layout.shared_stems()), *overlap_notes(found, names)]
    notes += _step_notes(args, steps, found)
    facts = {**_origin(args, model, found.steps, adjusted), "notes": notes}
    options = {"video": args.video, "max_megapixels": args.max_megapixels}
    start = time.perf_counter()
    content = write_segmentation(args.out, found, photos, layout, facts, **options, watch=progress)
    seconds = {**found.seconds, "files": time.perf_counter() - start}
    summary = {
        "output": str(args.out),
        "photos": [str(photo.path) for photo in photos.photos],
        "notes": notes,
        "size_hw": [height, width],
        "num_instances": len(content["instances"]),
        "postprocess": [step["name"] for step in facts["postprocess"]],
        "seconds": {part: round(value, 4) for part, value in seconds.items()},
        "peak_memory_gb": cost.peak_gb(device),
    }
    print_json(summary) if args.json else _print(args, summary)


def _print(args: argparse.Namespace, summary: dict[str, Any]) -> None:
    """Print the summary as text."""
    for message in summary["notes"]:
        say(f"note: {message}")
    (height, width), seconds = summary["size_hw"], summary["seconds"]
    made = f"{counted(len(summary['photos']), 'photo')} at {width}x{height} -> "
    made += counted(summary["num_instances"], "instance")
    say(f"{made}; masks {seconds['masks']:.2f} s, geometry {seconds['geometry']:.2f} s, files {seconds['files']:.2f} s")
    if (peak := summary["peak_memory_gb"]) is not None:
        say(f"at most {peak:.1f} GB of memory")
    say(f"wrote {args.out}; see {args.out / 'contact_sheet.jpg'}")


def _each_once(paths: list[Path]) -> tuple[list[Path], list[str]]:
    """Photos without repetitions, and a note on those; what is no file is refused."""
    once: dict[str, Path] = {}
    for path in paths:
        once.setdefault(os.path.abspath(check_file(path)), path)
    repeated = len(paths) - len(once)
    notes = [f"{counted(repeated, 'photo')} given more than once; once counts"] if repeated else []
    return list(once.values()), notes


def _stem_notes(names: list[str]) -> list[str]:
    """A note on photos whose files have their whole names."""
    if not names:
        return []
    some = ", ".join(shown(name) for name in names[:2])
    return [f"{some} share a name but for the suffix: their files have the whole name; `fit` wants other names"]


def _step_notes(args: argparse.Namespace, steps: tuple[Step, ...], found: Segmentation) -> list[str]:
    """A note on steps that ``--postprocess`` names and that had nothing to change."""
    from tokengroups.postprocess import step_name

    idle = ", ".join(step_name(step) for step in steps if step not in found.steps)
    if not idle or args.postprocess == "default":
        return []
    return [f"{shown(idle)}: not run, as masks of this system need no decoded scene"]


def _origin(
    args: argparse.Namespace, model: SceneSystem, steps: tuple[Step, ...], adjusted: dict[str, Any]
) -> dict[str, Any]:
    """What made the masks, for ``instances.json``."""
    from tokengroups.postprocess import describe_steps
    from tokengroups.systems.weights import system_name

    licence = {"licence": found} if (found := model.licence_with(steps)) else {}
    facts = {"weights": Path(args.weights).name, "system": system_name(type(model)), **licence, **adjusted}
    facts |= {"fast": True} if args.fast else {}
    return {**facts, "intrinsics": "predicted" if args.focal is None else "given", "postprocess": describe_steps(steps)}
