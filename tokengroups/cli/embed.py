"""`tokengroups embed`: embeddings of a scene's groups by the photos that it was made from."""

from __future__ import annotations

import argparse
from pathlib import Path

from tokengroups.cli.output import counted, print_json, progress, say
from tokengroups.errors import UserError
from tokengroups.reading import shown

HELP = "give the groups of a scene embeddings of an image encoder, so that any text finds them"
EXAMPLES = """\
  %(prog)s scene.safetensors photos/ --encoder clip-vit-base-patch16/ -o scene.safetensors
  %(prog)s scene.safetensors a.jpg b.jpg --encoder google/siglip2-base-patch16-224 -o embedded.safetensors
  %(prog)s scene.safetensors photos/ --encoder my_colours:Colours -o embedded.safetensors

The embedding of a group is the mean feature of its pixels over all photos. `query`, `list --vocabulary` and edits by
text work on the result. `tokengroups reconstruct --embed` does the same at once."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add = parser.add_argument
    add("scene", help="scene file, unedited")
    add("photos", nargs="+", metavar="PHOTO|DIR", help="the photos that the scene was made from, found by their names")
    encoder_help = "folder or hub id of CLIP or SigLIP, or package.module:Class, an image encoder of your own"
    add("--encoder", required=True, metavar="DIR|ID|CLASS", help=encoder_help)
    add("-o", "--out", required=True, type=Path, metavar="FILE", help="scene file to write")
    add("--json", action="store_true", help="print JSON for programs")


def run(args: argparse.Namespace) -> None:
    """Load scene, photos and encoder; write the scene with embeddings."""
    from tokengroups.io.files import check_scene_name
    from tokengroups.io.scene_photos import find_scene_photos
    from tokengroups.retrieval import embed_groups
    from tokengroups.scene import load_scene, save_scene
    from tokengroups.text import load_dense_encoder

    check_scene_name(args.out)
    scene = load_scene(args.scene)
    if scene.provenance.get("edits"):
        raise UserError(f"{args.scene} was edited, so its photos show something else; embed it before you edit it")
    count, size_hw = len(scene.cameras.cam_from_world), scene.cameras.size_hw
    photos, notes = find_scene_photos(args.photos, scene.provenance, count)
    encoder = load_dense_encoder(args.encoder)
    images = (photo.load(size_hw) for photo in progress(photos, count, "embedding"))
    scene = embed_groups(scene, images, encoder, masks=(photo.shown_in(size_hw) for photo in photos))
    assert scene.semantics is not None
    save_scene(args.out, scene)
    known = scene.semantics.embeddings.any(dim=1)
    unseen = scene.group_ids[~known].tolist()
    if args.json:
        answer = {"scene": str(args.out), "text_encoder": encoder.name, "photos": [str(each.path) for each in photos]}
        print_json(answer | {"notes": notes, "num_groups": len(known), "groups_without_embedding": unseen})
        return
    for message in notes:
        say(f"note: {message}")
    if unseen:
        say(f"note: no photo shows {shown('the groups ' + ', '.join(map(str, unseen)))}: they have no embedding")
    say(f"{counted(int(known.sum()), 'group')} embedded by {encoder.name} in {counted(count, 'photo')}")
    say(f"wrote {args.out}; next: tokengroups query {args.out} TEXT")
