"""`tokengroups data`: write data sets to disk."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from tokengroups.cli.arguments import MAX_COUNT, MAX_SIZE_PX, add_number, check_room_size

HELP = "write procedural rooms to disk: photos, depth, instances and cameras in ScanNet's layout"
EXAMPLES = """\
  tokengroups data procedural --out rooms/ --num-scenes 4 --num-views 5
  tokengroups data procedural --out rooms/ --num-scenes 100 --num-views 9 --size 128 --seed 7 --split train
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    kinds = parser.add_subparsers(dest="kind", metavar="KIND", required=True)
    procedural = kinds.add_parser(
        "procedural",
        help="generated rooms with furniture",
        description="Generate furnished rooms; write each as a folder in ScanNet's exported-frames layout.",
        epilog=f"examples:\n{EXAMPLES.rstrip()}",
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


def run(args: argparse.Namespace) -> None:
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
