"""`tokengroups query`: groups of a scene that match a text."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from tokengroups.cli.arguments import MAX_COUNT, add_number
from tokengroups.cli.output import print_json, print_table, save_pictures, say
from tokengroups.cli.text import add_text_encoder_option, embed
from tokengroups.reading import check_text

if TYPE_CHECKING:
    from torch import Tensor

    from tokengroups.retrieval import GroupMatch
    from tokengroups.types import TokenScene

HELP = "find the groups of a scene by text"
EXAMPLES = """\
  %(prog)s scene.safetensors "a place to sit"
  %(prog)s scene.safetensors lamp --top 3 --render found    # found/1_group_007.png: the group in colour
  %(prog)s scene.safetensors sofa --json | jq '.matches[0].id'

The probability is that the text applies to most of the group: the cosine of text and group through a logistic curve
that was fitted on class names in training; after `tokengroups embed`, the image encoder's own probability of the text
against neutral ones such as 'object'. Centre and size are in scene units along the world's axes: x right, y down, z
forward for the first view."""
COLUMNS = "rank id probability cosine centre_x y z size_x y z name"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("scene", help="scene file")
    parser.add_argument("text", help="a name or a description, in a language that the text encoder knows")
    add_number(parser, "--top", 1, MAX_COUNT, default=5, metavar="N", help="how many groups (default %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON for programs")
    parser.add_argument("--render", metavar="DIR", help="write a photo's view with each group in colour")
    add_text_encoder_option(parser)


def run(args: argparse.Namespace) -> None:
    """Print the best groups; write their pictures."""
    text = check_text(args.text)
    from tokengroups.retrieval import find_groups
    from tokengroups.scene import load_scene

    scene = load_scene(args.scene)
    (embedding,) = embed(scene, args.text_encoder, [text])
    matches = find_groups(scene, embedding, args.top)
    pictures = save_pictures(args.render, _pictures(scene, matches)) if args.render else []
    if args.json:
        found = [asdict(match) for match in matches]
        for match, picture in zip(found, pictures, strict=False):
            match["picture"] = str(picture)
        encoder = scene.semantics.encoder if scene.semantics else None
        print_json({"text": text, "text_encoder": encoder, "matches": found})
        return
    rows = []
    for rank, match in enumerate(matches, 1):
        values = (match.probability, match.cosine, *match.centre, *match.size)
        rows.append([str(rank), str(match.id), *(f"{value:.2f}" for value in values), match.name or "-"])
    print_table(rows, COLUMNS.split(), left={10})
    if pictures:
        say(f"wrote {len(pictures)} pictures to {args.render}")


def _pictures(scene: TokenScene, matches: Sequence[GroupMatch]) -> Iterator[tuple[str, Tensor]]:
    """Draw each group in the context view that shows most of it, all else in grey."""
    from tokengroups.scene import highlight, render_views

    views = list(render_views(scene, scene.cameras))
    for rank, match in enumerate(matches, 1):
        best = max(views, key=lambda view, group=match.id: int((view.group_map == group).sum()))
        yield f"{rank}_group_{match.id:03d}", highlight(best, match.id)
