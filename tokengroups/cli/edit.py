"""`tokengroups edit` and `edit.py`: take groups out, move, copy, name, unite and divide them; set the unit."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tokengroups.cli.output import describe, print_json, save_pictures, say
from tokengroups.cli.text import add_text_encoder_option, embedder
from tokengroups.errors import UserError
from tokengroups.reading import shown

if TYPE_CHECKING:
    from tokengroups.editing import Edit
    from tokengroups.types import TokenScene

HELP = "edit the groups of a scene; operations apply in the order given"
EXAMPLES = """\
  %(prog)s scene.safetensors remove 7 move 3 0.4 0 0 -o edited.safetensors
  %(prog)s scene.safetensors rotate 3 --axis y --degrees 30 -o edited.safetensors
  %(prog)s scene.safetensors insert other.safetensors:4 --at 0 0.2 1.5 -o edited.safetensors
  %(prog)s scene.safetensors merge 4 9 rename 4 "red sofa" split 7 -o tidy.safetensors
  %(prog)s scene.safetensors rescale 0.5 -o metres.safetensors   # a table 2.8 long in the scene is 1.4 m
  %(prog)s scene.safetensors --script edits.json -o edited.safetensors
  %(prog)s scene.safetensors keep 3 5 -o sofa.safetensors --render pictures   # before_000.png, after_000.png
  %(prog)s scene.safetensors remove chair --all move "a lamp" 0.4 0 0 -o edited.safetensors"""
NOTES = """\
GROUP is an id, or a text: the group of that name, else the one that matches the text (scenes with semantics).
If a text matches several groups, they are listed and nothing is edited, unless --all is given.
An operation of your own is named by its import path, package.module:Class (see tokengroups.editing.Edit)."""

OPTIONS = {
    "-o": "output", "--output": "output", "--script": "script", "--render": "render", "--text-encoder": "text_encoder",
}  # fmt: skip
FLAGS = ("--json", "--all")
HELP_FLAGS = {"-h", "--help"}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options; `split_options` finds those after the operations."""
    parser.usage = f"{parser.prog} SCENE (OPERATION [ARGUMENT ...]) ... -o OUT [--all] [--render DIR] [--json]"
    parser.usage += f"\n       {parser.prog} SCENE --script FILE -o OUT [--all] [--render DIR] [--json]"
    parser.add_argument("-o", "--output", metavar="OUT", help="edited scene file")
    parser.add_argument("--script", metavar="FILE", help="JSON file of operations, as the page of `view` exports it")
    parser.add_argument("--render", metavar="DIR", help="write the context views before and after as PNG")
    parser.add_argument("--all", action="store_true", help="a text may select several groups")
    add_text_encoder_option(parser)
    parser.add_argument("--json", action="store_true", help="print JSON for programs")
    parser.add_argument("scene", metavar="SCENE", help="scene file")
    parser.add_argument("operations", nargs=argparse.REMAINDER, metavar="OPERATION", help="see below")
    options_help = parser.format_help

    def format_help() -> str:
        from tokengroups.editing import operations_help  # imports torch, which no other --help needs

        return f"{options_help()}\noperations:\n{operations_help()}\n\n{NOTES}\n"

    parser.format_help = format_help
    parser.set_defaults(print_help=parser.print_help)


def run(args: argparse.Namespace) -> None:
    """Apply the operations and write the edited scene."""
    if HELP_FLAGS.intersection(args.operations):  # argparse sees those before the operations only
        args.print_help()
        return
    words = split_options(args)
    if not args.output:
        raise UserError("name the edited scene's file with -o OUT")
    from tokengroups.editing import parse_edits, read_script
    from tokengroups.io.files import atomic_path, check_folder, check_scene_name
    from tokengroups.scene import load_scene, render_views, save_scene

    if args.script and words:
        raise UserError(f"give operations or --script, not both: there is '{shown(' '.join(words))}', too")
    edits = read_script(args.script) if args.script else parse_edits(words)
    check_scene_name(args.output)
    if args.render:
        check_folder(args.render)
    before = load_scene(args.scene)
    scene, done = _apply(edits, before, args)
    views = (  # each from its own cameras, which only edits of the whole scene move
        (f"{name}_{index:03d}", view.color)
        for name, rendered in (("before", before), ("after", scene))
        for index, view in enumerate(render_views(rendered, rendered.cameras))
    )
    with atomic_path(args.output) as draft:  # appears only if the pictures do
        save_scene(draft, scene)
        pictures = save_pictures(args.render, views) if args.render else []
    if args.json:
        ids = scene.group_ids.tolist()
        print_json({"output": args.output, "edits": done, "groups": ids, "pictures": [str(path) for path in pictures]})
        return
    for line in done:
        say(line)
    say(f"wrote {args.output}: {describe(scene)}")
    if pictures:
        say(f"wrote {len(pictures)} pictures to {args.render}")


def _apply(edits: Sequence[Edit], scene: TokenScene, args: argparse.Namespace) -> tuple[TokenScene, list[str]]:
    """Apply edits one after the other; returns the edited scene and what was done."""
    from tokengroups.editing import describe as describe_edit

    done, embed = [], embedder(args.text_encoder)
    for number, edit in enumerate(edits, start=1):
        try:
            edit = edit.resolve(scene, embed, every=args.all)
            edited = edit.apply(scene)
        except UserError as error:
            raise UserError(f"{shown(args.script)}: edit {number}: {error}" if args.script else str(error)) from error
        done.append(describe_edit(edit, scene, edited))
        scene = edited
    return scene, done


def split_options(args: argparse.Namespace) -> list[str]:
    """Move the options among the operations into `args`; returns the operations' words."""
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
