"""`tokengroups list`: the groups of a scene."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from tokengroups.cli.arguments import add_number
from tokengroups.cli.output import describe, print_json, print_table, progress, save_pictures, say
from tokengroups.cli.text import add_text_encoder_option, label_groups, parse_vocabulary

if TYPE_CHECKING:
    from tokengroups.scene import GroupSummary

HELP = "list the groups of a scene: id, size, place, colour, share of the photos' pixels, label"
EXAMPLES = """\
  %(prog)s scene.safetensors
  %(prog)s scene.safetensors --thumbnails thumbs     # thumbs/group_007.png: the group alone
  %(prog)s scene.safetensors --vocabulary chair,table,lamp,wall,floor   # the best name for every group
  %(prog)s scene.safetensors --json | jq '.[] | select(.visible_share > 0.1) | .id'

Centre and size are in scene units along the world's axes: x right, y down, z forward for the first view."""
COLUMNS = "id anchors Gaussians visible centre_x y z size_x y z colour name"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add = parser.add_argument
    add("scene", help="scene file")
    add("--json", action="store_true", help="print JSON for programs")
    add("--thumbnails", metavar="DIR", help="write a picture of every group alone")
    size_help = "their side in pixels (default %(default)s)"
    add_number(parser, "--thumbnail-size", 16, 2048, default=160, metavar="PX", help=size_help)
    add("--vocabulary", metavar="NAMES", help="label each group with the best of these names (a,b,c)")
    add_text_encoder_option(parser)


def run(args: argparse.Namespace) -> None:
    """Print the table or the JSON; write the thumbnails."""
    import torch

    from tokengroups.scene import load_scene, render_portraits, summarise, visible_shares

    scene = load_scene(args.scene)
    ids = scene.group_ids.tolist()
    facts: dict[int, dict[str, Any]] = {group_id: {} for group_id in ids}
    if args.vocabulary is not None:
        labels = label_groups(scene, parse_vocabulary(args.vocabulary), args.text_encoder)
        for group_id, label in zip(ids, labels, strict=True):
            facts[group_id] |= {"label": label.name, "label_probability": label.probability}
    summaries = summarise(scene, visible_shares(scene))
    if args.thumbnails:
        portraits = render_portraits(scene, args.thumbnail_size, torch.ones(3))
        names = (f"group_{group_id:03d}" for group_id in ids)
        pictures = zip(names, progress(portraits, len(ids), "thumbnails"), strict=True)
        for group_id, path in zip(ids, save_pictures(args.thumbnails, pictures), strict=True):
            facts[group_id]["thumbnail"] = str(path)
    if args.json:
        print_json([asdict(summary) | facts[summary.id] for summary in summaries])
        return
    known = [summary.score for summary in summaries if summary.score is not None]
    header = [*COLUMNS.split(), *(["score"] if known else [])]
    left = {header.index("name")}
    if args.vocabulary is not None:
        left.add(len(header))
        header += ["label", "probability"]
    say(f"{args.scene}: {describe(scene)}")
    rows = [_row(summary, facts[summary.id], bool(known)) for summary in summaries]
    print_table(rows, header, left=left)
    if args.thumbnails:
        say(f"wrote {len(ids)} thumbnails to {args.thumbnails}")


def _row(group: GroupSummary, facts: dict[str, Any], with_score: bool) -> list[str]:
    return [
        str(group.id),
        f"{group.num_anchors:,}",
        f"{group.num_gaussians:,}",
        f"{group.visible_share:.1%}",
        *(f"{value:.2f}" for value in (*group.centre, *group.size)),
        "#{:02x}{:02x}{:02x}".format(*group.color),
        group.name or "-",
        *(["-" if group.score is None else f"{group.score:.3f}"] if with_score else []),
        *([facts["label"] or "-", f"{facts['label_probability']:.2f}"] if "label" in facts else []),
    ]
