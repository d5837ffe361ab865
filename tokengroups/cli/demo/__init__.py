"""`tokengroups demo`: run every command on held-out rooms and write a page of the results."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from tokengroups.cli.arguments import add_number
from tokengroups.cli.output import say

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
    """Make the photos, run the commands on them, evaluate, write the page; all files appear together, or none."""
    from tokengroups.cli.demo.page import build_page
    from tokengroups.cli.demo.rooms import make_room, reconstruct_room, run_command
    from tokengroups.cli.demo.sections import numbers_section, room_section
    from tokengroups.cli.demo.workplace import workplace
    from tokengroups.io.files import write_text

    say(f"making {args.scenes} rooms that the weights have never seen, and {NUM_VIEWS} photos of each")
    with workplace(args.out) as out:
        numbers = range(1, args.scenes + 1)
        rooms = [make_room(out / f"room_{number}", number, args.seed, NUM_VIEWS, SIZE_PX) for number in numbers]
        weights = ("--weights", args.weights) if args.weights is not None else ()
        made = [reconstruct_room(room, *weights) for room in rooms]
        data = ("--data", "procedural", "--split", "test", "--seed", args.seed, "--num-scenes", args.scenes)
        run_command("evaluate", *data, "--views", NUM_VIEWS, *weights, "--json", out / "metrics.json")
        measured = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
        scales = [scene["scale"] for scene in measured["per_scene"]]
        donors = [*made[1:], made[0]]
        sections = [room_section(*each) for each in zip(made, donors, scales, strict=True)]
        write_text(out / "index.html", build_page([*sections, numbers_section(measured)]))
    say()
    say(f"wrote {args.out / 'index.html'}; open it in a browser, it needs no network")
