"""`tokengroups edit` and `edit.py`: remove, keep, move, rotate, scale, duplicate and insert groups."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from tokengroups.cli.output import describe, print_json
from tokengroups.cli.text import add_text_encoder_option, check_text, embed
from tokengroups.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from tokengroups.types import TokenScene

HELP = "edit the groups of a scene; operations apply in the order given"
EXAMPLES = """\
  %(prog)s scene.safetensors remove 7 move 3 0.4 0 0 -o edited.safetensors
  %(prog)s scene.safetensors rotate 3 --axis y --degrees 30 -o edited.safetensors
  %(prog)s scene.safetensors insert other.safetensors:4 --at 0 0.2 1.5 -o edited.safetensors
  %(prog)s scene.safetensors keep 3 5 -o sofa.safetensors --render pictures   # before_000.png, after_000.png
  %(prog)s scene.safetensors remove chair --all move "a lamp" 0.4 0 0 -o edited.safetensors"""
NOTES = """\
GROUP is an id, or a text: the group of that name, else the one that is what the text says (scenes with semantics).
A text that matches several groups lists them and stops, unless --all is given.
An operation of your own is named by its import path, package.module:Class (see tokengroups.editing.Edit)."""

OPTIONS = {"-o": "output", "--output": "output", "--render": "render", "--text-encoder": "text_encoder"}
FLAGS = ("--json", "--all")


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options; those after the operations are picked out by `split_options`."""
    parser.usage = (
        f"{parser.prog} SCENE OPERATION [ARGUMENT ...] [OPERATION ...] -o OUT [--all] [--render DIR] [--json]"
    )
    parser.add_argument("-o", "--output", metavar="OUT", help="edited scene file")
    parser.add_argument("--render", metavar="DIR", help="write the context views before and after as PNG")
    parser.add_argument("--all", action="store_true", help="a text may select several groups")
    add_text_encoder_option(parser)
    parser.add_argument("--json", action="store_true", help="print JSON for programs")
    parser.add_argument("scene", metavar="SCENE", help="scene file")
    parser.add_argument("operations", nargs=argparse.REMAINDER, metavar="OPERATION", help="see below")
    brief = parser.format_help
    parser.format_help = lambda: f"{brief()}{describe_operations()}"  # imports torch: only when asked


def describe_operations() -> str:
    """Explain every operation, below the options."""
    from tokengroups.editing import operations_help

    return f"\noperations:\n{operations_help()}\n\n{NOTES}\n"


def run(args: argparse.Namespace) -> None:
    """Apply the operations and write the edited scene."""
    words = split_options(args)
    if not args.output:
        raise UserError("name the edited scene's file with -o OUT")
    from tokengroups.editing import parse_edits
    from tokengroups.io.files import check_writable
    from tokengroups.scene import load_scene, save_scene

    edits = parse_edits(words)
    check_writable(args.output)
    before = scene = load_scene(args.scene)

    def embed_text(of: TokenScene, text: str) -> Tensor:
        return embed(of, args.text_encoder, [check_text(text)])[0]

    done = []
    for edit in edits:
        known = set(scene.group_ids.tolist())
        edit = edit.resolve(scene, embed_text, every=args.all)
        scene = edit.apply(scene)
        added = sorted(set(scene.group_ids.tolist()) - known)
        done.append(f"{edit}" + "".join(f" as group {group_id}" for group_id in added))
    save_scene(args.output, scene)
    pictures = render_comparison(before, scene, args.render) if args.render else []
    if args.json:
        ids = scene.group_ids.tolist()
        print_json({"output": args.output, "edits": done, "groups": ids, "pictures": [str(path) for path in pictures]})
        return
    print("\n".join(done))
    print(f"wrote {args.output}: {describe(scene)}")
    if pictures:
        print(f"wrote {len(pictures)} pictures to {args.render}")


def split_options(args: argparse.Namespace) -> list[str]:
    """Move the options that stand among the operations into `args`; returns the operations' words."""
    words, rest = [], list(args.operations)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        if name in OPTIONS:
            if not equals and not rest:
                raise UserError(f"{name} needs a value")
            setattr(args, OPTIONS[name], value if equals else rest.pop(0))
        elif word in FLAGS:
            setattr(args, word.removeprefix("--"), True)
        else:
            words.append(word)
    return words


def render_comparison(before: TokenScene, after: TokenScene, folder: str) -> list[Path]:
    """Write the context views before and after; returns the files."""
    from tokengroups.io.files import make_folder
    from tokengroups.io.pictures import save_color
    from tokengroups.scene import render_views

    target = make_folder(folder)
    paths = []
    for name, scene in (("before", before), ("after", after)):
        for index, view in enumerate(render_views(scene, before.cameras)):
            paths.append(target / f"{name}_{index:03d}.png")
            save_color(paths[-1], view.color)
    return paths
