"""`tokengroups demo`: run every command on held-out rooms and write a page of the results."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from tokengroups.cli.arguments import add_number

HELP = "run every command on held-out rooms and write a page of the results, which opens offline"
EXAMPLES = """\
  tokengroups demo --out out/demo
  tokengroups demo --out out/demo --scenes 1 --seed 7"""
NUM_VIEWS = 2
SIZE_PX = 128
MAX_SCENES = 1000


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--out", type=Path, default=Path("out/demo"), metavar="DIR", help="folder (%(default)s)")
    add_number(parser, "--scenes", 1, MAX_SCENES, default=3, metavar="N", help="number of rooms (%(default)s)")
    add_number(parser, "--seed", 0, default=0, metavar="S", help="which held-out rooms (%(default)s)")
    parser.add_argument("--weights", metavar="NAME|DIR", help="shipped name or weight folder (token_groups_tiny)")


def run(args: argparse.Namespace) -> None:
    """Make the photos, run the commands on them, evaluate, write the page."""
    from tokengroups.cli.demo.page import build_page
    from tokengroups.cli.demo.rooms import make_room, reconstruct_room, run_command
    from tokengroups.cli.demo.sections import numbers_section, room_section
    from tokengroups.io.files import make_folder, write_text

    out = make_folder(args.out)
    print(f"making {args.scenes} rooms that the weights have never seen, and {NUM_VIEWS} photos of each")
    rooms = [
        make_room(out / f"room_{number}", number, args.seed, NUM_VIEWS, SIZE_PX) for number in range(1, args.scenes + 1)
    ]
    weights = ("--weights", args.weights) if args.weights else ()
    made = [reconstruct_room(room, *weights) for room in rooms]
    data = ("--data", "procedural", "--split", "test", "--seed", args.seed, "--num-scenes", args.scenes)
    run_command("evaluate", *data, "--views", NUM_VIEWS, *weights, "--json", out / "metrics.json")
    numbers = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    scales = [scene["scale"] for scene in numbers["per_scene"]]
    donors = [*made[1:], made[0]]
    sections = [room_section(*each) for each in zip(made, donors, scales, strict=True)]
    page = out / "index.html"
    write_text(page, build_page([*sections, numbers_section(numbers)]))
    print(f"\nwrote {page}; open it in a browser, it needs no network")
