"""`tokengroups query`: the groups of a scene that a text names."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from tokengroups.cli.arguments import add_number
from tokengroups.cli.output import print_json, print_table
from tokengroups.cli.text import add_text_encoder_option, check_text, embed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tokengroups.retrieval import GroupMatch
    from tokengroups.types import TokenScene

HELP = "find the groups of a scene by text"
EXAMPLES = """\
  %(prog)s scene.safetensors "a place to sit"
  %(prog)s scene.safetensors lamp --top 3 --render found    # found/1_group_007.png: the group in colour
  %(prog)s scene.safetensors sofa --json | jq '.matches[0].id'

The probability says how likely it is that most of the group is what the text says: the cosine of text and group
through a logistic curve that training fitted on class names. Centre and size are in scene units along the world's
axes: x right, y down, z forward for the first view."""
COLUMNS = "rank id probability cosine centre_x y z size_x y z name"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("scene", help="scene file")
    parser.add_argument("text", help="a name or a description, in the words of the text encoder's language")
    add_number(parser, "--top", 1, default=5, metavar="N", help="how many groups (default %(default)s)")
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
    pictures = write_pictures(scene, matches, args.render) if args.render else []
    if args.json:
        found = [asdict(match) for match in matches]
        for match, picture in zip(found, pictures, strict=False):
            match["picture"] = str(picture)
        encoder = scene.semantics.encoder if scene.semantics else None
        print_json({"text": text, "text_encoder": encoder, "matches": found})
        return
    print_table([_row(rank, match) for rank, match in enumerate(matches, 1)], COLUMNS.split(), left={10})
    if pictures:
        print(f"wrote {len(pictures)} pictures to {args.render}")


def _row(rank: int, match: GroupMatch) -> list[str]:
    return [
        str(rank),
        str(match.id),
        f"{match.probability:.2f}",
        f"{match.cosine:.2f}",
        *(f"{value:.2f}" for value in (*match.centre, *match.size)),
        match.name or "-",
    ]


def write_pictures(scene: TokenScene, matches: Sequence[GroupMatch], folder: str) -> list[Path]:
    """Write ``RANK_group_ID.png``: the context view that shows most of a group, all else grey."""
    from tokengroups.io.files import make_folder
    from tokengroups.io.pictures import save_color
    from tokengroups.scene import highlight, render_views

    target = make_folder(folder)
    views = list(render_views(scene, scene.cameras))
    paths = []
    for rank, match in enumerate(matches, 1):
        best = max(views, key=lambda view, group=match.id: int((view.group_map == group).sum()))
        paths.append(target / f"{rank}_group_{match.id:03d}.png")
        save_color(paths[-1], highlight(best, match.id))
    return paths
