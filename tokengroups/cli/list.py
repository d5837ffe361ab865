"""`tokengroups list`: the groups of a scene."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from tokengroups.cli.arguments import add_number
from tokengroups.cli.output import describe, print_json, print_table, progress
from tokengroups.cli.text import add_text_encoder_option, label_groups, parse_vocabulary

if TYPE_CHECKING:
    from tokengroups.retrieval import GroupLabel
    from tokengroups.types import TokenScene

HELP = "list the groups of a scene: id, size, place, colour, share of the photos' pixels, what they are"
EXAMPLES = """\
  %(prog)s scene.safetensors
  %(prog)s scene.safetensors --thumbnails thumbs     # thumbs/group_007.png: the group alone
  %(prog)s scene.safetensors --vocabulary chair,table,lamp,wall,floor   # the best name for every group
  %(prog)s scene.safetensors --json | jq '.[] | select(.visible_share > 0.1) | .id'

Centre and size are in scene units along the world's axes: x right, y down, z forward for the first view."""
COLUMNS = "id anchors Gaussians visible centre_x y z size_x y z colour name"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("scene", help="scene file")
    parser.add_argument("--json", action="store_true", help="print JSON for programs")
    parser.add_argument("--thumbnails", metavar="DIR", help="write a picture of every group alone")
    add_number(
        parser, "--thumbnail-size", 16, 2048, default=160, metavar="PX", help="their side in pixels (default 160)"
    )
    parser.add_argument(
        "--vocabulary", metavar="NAMES", help="names with commas between: say which fits each group best"
    )
    add_text_encoder_option(parser)


def run(args: argparse.Namespace) -> None:
    """Print the table or the JSON; write the thumbnails."""
    from tokengroups.scene import load_scene, summarise, visible_shares

    scene = load_scene(args.scene)
    labels: dict[int, GroupLabel] = {}
    if args.vocabulary is not None:
        named = label_groups(scene, parse_vocabulary(args.vocabulary), args.text_encoder)
        labels = dict(zip(scene.group_ids.tolist(), named, strict=True))
    summaries = summarise(scene, visible_shares(scene))
    thumbnails: dict[int, Path] = {}
    if args.thumbnails:
        thumbnails = write_thumbnails(scene, args.thumbnails, args.thumbnail_size)
    if args.json:
        known = {group_id: {"thumbnail": str(path)} for group_id, path in thumbnails.items()}
        for group_id, label in labels.items():
            said = {"label": label.name, "label_probability": label.probability}
            known[group_id] = known.get(group_id, {}) | said
        print_json([asdict(summary) | known.get(summary.id, {}) for summary in summaries])
        return
    header = [*COLUMNS.split(), *(["label", "probability"] if labels else [])]
    rows = [
        [
            str(group.id),
            f"{group.num_anchors:,}",
            f"{group.num_gaussians:,}",
            f"{group.visible_share:.1%}",
            *(f"{value:.2f}" for value in (*group.centre, *group.size)),
            "#{:02x}{:02x}{:02x}".format(*group.color),
            group.name or "-",
            *_label_cells(labels.get(group.id)),
        ]
        for group in summaries
    ]
    print(f"{args.scene}: {describe(scene)}")
    print_table(rows, header, left={header.index("name"), header.index("name") + 1})
    if thumbnails:
        print(f"wrote {len(thumbnails)} thumbnails to {args.thumbnails}")


def _label_cells(label: GroupLabel | None) -> list[str]:
    return [label.name, f"{label.probability:.2f}"] if label else []


def write_thumbnails(scene: TokenScene, folder: str, size: int) -> dict[int, Path]:
    """Write ``group_ID.png`` for every group; returns their paths by id."""
    import torch

    from tokengroups.io.files import make_folder
    from tokengroups.io.pictures import save_color
    from tokengroups.scene import render_portrait

    target = make_folder(folder)
    paths = {}
    ids = scene.group_ids.tolist()
    for column, group_id in progress(list(enumerate(ids)), len(ids), "thumbnails"):
        paths[group_id] = target / f"group_{group_id:03d}.png"
        save_color(paths[group_id], render_portrait(scene, column, size, torch.ones(3)))
    return paths
