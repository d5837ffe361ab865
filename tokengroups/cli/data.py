"""`tokengroups data`: write data sets to disk, and curate instance masks for one's own."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokengroups.cli.arguments import MAX_COUNT, MAX_SIZE_PX, add_device_option, add_number, check_room_size

if TYPE_CHECKING:
    from tokengroups.data.curation.base import Proposer
    from tokengroups.data.curation.scans import Scan

HELP = "write procedural rooms to disk, or make instance masks for videos and scans"
EXAMPLES = """\
  tokengroups data procedural --out rooms/ --num-scenes 4 --num-views 5
  tokengroups data procedural --out rooms/ --num-scenes 100 --num-views 9 --size 128 --seed 7 --split train
  tokengroups data curate frames/ -o masks/ --weights sam2.1-hiera-large/
"""
CURATE_EXAMPLES = """\
  mkdir frames && ffmpeg -i room.mp4 -r 10 frames/%05d.jpg
  tokengroups data curate frames/ -o room/ --weights sam2.1-hiera-large/
  tokengroups data curate scannet/scans/ -o refined/ --weights sam2.1-hiera-large/ --device cuda
"""
CURATE_TEXT = """\
Make masks of instances that are the same in all frames, as those of InsScene-15K were made.

A VIDEO is a folder of frames: objects are found at key frames and followed through the clip. DIR gets auto_masks.json
(SA-V's form), masks/*.png (16 bits, 0 = none) and curation.json.

SCANS is a scan, or a folder of scans, with photos (color/ or images/) and projected ids (instance-filt/, obj_ids/ or
ids/): every id gets the segmenter's masks that match it. DIR gets refined_ins_ids/ and curation.json, in a folder for
each scan if there are several.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    kinds = parser.add_subparsers(dest="kind", metavar="KIND", required=True)
    procedural = kinds.add_parser(
        "procedural",
        help="generated rooms with furniture",
        description="Generate furnished rooms; write each as a folder in ScanNet's exported-frames layout.",
        epilog="\n".join(["examples:", *EXAMPLES.splitlines()[:2]]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add, add_limited = procedural.add_argument, partial(add_number, procedural)
    add("--out", type=Path, required=True, metavar="DIR", help="folder of the rooms' folders; created if missing")
    add_limited("--num-scenes", 1, MAX_COUNT, default=1, metavar="N", help="how many rooms (%(default)s)")
    add_limited("--num-views", 1, MAX_COUNT, default=5, metavar="V", help="frames a room, along a path (%(default)s)")
    add_limited("--size", 16, MAX_SIZE_PX, default=128, metavar="PX", help="side of the square images (%(default)s)")
    add_limited("--seed", 0, default=0, metavar="S", help="which rooms (%(default)s)")
    add("--split", choices=("test", "train"), default="test", help="the two share no room (%(default)s)")
    add("--json", action="store_true", help="print the folders as JSON")
    _configure_curate(
        kinds.add_parser(
            "curate",
            help="instance masks for a video or for scans, by SAM 2",
            description=CURATE_TEXT,
            epilog=f"examples:\n{CURATE_EXAMPLES.rstrip()}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
    )


def _configure_curate(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("source", type=Path, metavar="VIDEO|SCANS", help="folder of frames, a scan, or a folder of scans")
    add("-o", "--out", type=Path, required=True, metavar="DIR", help="folder to write; created if missing")
    add("--weights", type=Path, metavar="DIR", help="SAM 2 in transformers' layout, e.g. sam2.1-hiera-large")
    add("--proposer", default="sam2", metavar="NAME", help="sam2, or package.module:Class (%(default)s)")
    add("--propagator", default="sam2", metavar="NAME", help="likewise, for videos (%(default)s)")
    stride_help = "of a video: frames between candidates for key frames (%(default)s)"
    add_number(parser, "--stride", 1, default=1, metavar="N", help=stride_help)
    area_help = "of a video: new objects at later key frames are larger (%(default)s)"
    add_number(parser, "--min-new-area", 0, default=5000, metavar="PX", help=area_help)
    add_number(parser, "--seed", 0, default=0, metavar="S", help="of scans: which points are compared (%(default)s)")
    add("--faithful", action="store_true", help="with the known defects: masklet_num, order of painting")
    add_device_option(parser)
    add("--json", action="store_true", help="print the statistics as JSON")


def run(args: argparse.Namespace) -> None:
    """Generate rooms, or curate."""
    _curate(args) if args.kind == "curate" else _generate(args)


def _generate(args: argparse.Namespace) -> None:
    """Generate and write the rooms; print their folders."""
    from tokengroups.cli.output import counted, note, print_json, progress, say
    from tokengroups.data.base import open_dataset
    from tokengroups.data.readers.scannet import write_scannet
    from tokengroups.io.files import check_folder

    check_room_size(args.num_views, args.size)
    check_folder(args.out)
    options = {"seeds": [args.seed], "num_rooms": args.num_scenes}
    rooms = open_dataset("procedural", num_frames=args.num_views, size=args.size, options=options)
    folders: list[Path] = []
    try:
        for index in progress(rooms.splits[args.split], args.num_scenes, "rooms"):
            frames = rooms[index][:]
            write_scannet(args.out / frames.name, frames)
            folders.append(args.out / frames.name)
    finally:  # a room appears when it is complete, and stays whatever happens to the next one
        if 0 < len(folders) < args.num_scenes:
            note(f"{args.out} has the first {counted(len(folders), 'room')} of {args.num_scenes:,}, complete")
    if args.json:
        print_json({"scenes": [str(folder) for folder in folders]})
    else:
        rooms_and_views = f"{counted(len(folders), 'room')} of {counted(args.num_views, 'view')}"
        say(f"wrote {rooms_and_views} to {args.out} ({folders[0].name} ... {folders[-1].name})")


def _curate(args: argparse.Namespace) -> None:
    """Curate a video or scans; print what was found."""
    from tokengroups.cli.arguments import pick_device
    from tokengroups.cli.output import print_json
    from tokengroups.data.curation.base import load_part
    from tokengroups.data.curation.scans import find_scans
    from tokengroups.io.files import check_folder

    check_folder(args.out)
    device = pick_device(args.device)
    scans = find_scans(args.source)
    proposer = load_part("proposer", args.proposer, args.weights, device) if scans else None
    facts = _curate_scans(args, scans, proposer) if proposer else _curate_clip(args, device)
    if args.json:
        print_json(facts)


def _curate_clip(args: argparse.Namespace, device: str) -> dict[str, Any]:
    from tokengroups.cli.output import counted, progress, say
    from tokengroups.data.curation.base import load_part
    from tokengroups.data.curation.frames import FrameFolder, write_clip
    from tokengroups.data.curation.video import VideoSettings, curate_video

    settings = VideoSettings(stride=args.stride, new_area=args.min_new_area, faithful=args.faithful)
    frames = FrameFolder(args.source, settings.max_height)
    proposer = load_part("proposer", args.proposer, args.weights, device)
    propagator = load_part("propagator", args.propagator, args.weights, device)
    clip = curate_video(frames, proposer, propagator, settings, progress)
    facts = write_clip(args.out, frames, clip, settings)
    if not args.json:
        found = f"{counted(facts['objects'], 'object')} in {counted(len(frames), 'frame')}"
        say(f"{found}, {counted(len(clip.key_frames), 'key frame')}; {facts['without_object']:.1%} without an object")
        say(f"wrote {args.out}")
    return facts


def _curate_scans(args: argparse.Namespace, scans: list[Scan], proposer: Proposer) -> dict[str, Any]:
    from tokengroups.cli.output import counted, note, progress, say
    from tokengroups.data.curation.matching import MatchSettings
    from tokengroups.data.curation.scans import ScanSettings, curate_scan

    settings = ScanSettings(matching=MatchSettings(seed=args.seed, faithful=args.faithful))
    facts = {}
    for scan in scans:
        out = args.out if scan.folder == args.source else args.out / scan.name
        if scan.without:
            note(f"{scan.name}: left out {counted(len(scan.without), 'photo')} without ids: {scan.without[0]}, ...")
        found = facts[scan.name] = curate_scan(scan, out, proposer, settings, progress)
        if not args.json:
            shares = f"{found['without_id_before']:.1%} -> {found['without_id']:.1%}"
            say(f"{scan.name}: {counted(found['frames'], 'frame')}, pixels without an id {shares}; wrote {out}")
    return facts
