"""`tokengroups ask`: the groups that a sentence means."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

from tokengroups.cli.arguments import MAX_COUNT, add_device_option, add_number, pick_device
from tokengroups.cli.output import counted, note, print_json, print_table, progress, save_pictures, say
from tokengroups.cli.text import add_text_encoder_option, embed
from tokengroups.errors import UserError
from tokengroups.reading import check_text

if TYPE_CHECKING:
    from tokengroups.grounding import Answerer, Grounding, ScenePictures
    from tokengroups.grounding.ground import Call
    from tokengroups.types import TokenScene

HELP = 'find the groups that a sentence means, such as "the chair nearest to the window"'
EXAMPLES = """\
  %(prog)s scene.safetensors "the chair nearest to the window"
  %(prog)s scene.safetensors "everything on the desk" --json | jq '.groups'
  %(prog)s scene.safetensors "the second largest red box left of the sofa"
  %(prog)s scene.safetensors "the chair with a coat on it" --model SmolVLM2-2.2B-Instruct/ --photos photos/
  %(prog)s scene.safetensors "whatever needs repair" --endpoint http://127.0.0.1:8000/v1 --model qwen2.5-vl
  %(prog)s scene.safetensors chair --save-views views   # the pictures that a model would be shown

Without --model the answer comes from names, colours, sizes and relations of the groups, and from their embeddings where
a noun is no name. Sentences are in English: NOUN on, in, next to, near, left of, right of, in front of, behind, above
or under NOUN; largest, smallest, tallest, nearest to NOUN and the like, with "second" or "two". Left and right are as
the photos show them. With a model, every group is shown to it in its best three views, painted red, with a question
that is answered by yes or no; any other answer counts as no. A key for the endpoint comes from the environment variable
TOKENGROUPS_API_KEY, --key-env or --key-file. The endpoint gets the pictures and the sentence, nothing else."""
COLUMNS = "id name probability"
COMBINATIONS = ("together", "union", "majority")  # copy of `tokengroups.grounding.COMBINATIONS`
_LONGEST_S = 7 * 24 * 3600.0


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add, add_limited = parser.add_argument, partial(add_number, parser)
    add("scene", help="scene file")
    add("sentence", help="what to look for")
    add("--model", metavar="DIR|NAME", help="folder of a vision-language model, or its name at the endpoint")
    add("--endpoint", metavar="URL", help="OpenAI-compatible address of a vision-language model")
    add("--photos", metavar="DIR", help="show the scene's photos from this folder (default: renderings)")
    combine_help = """together: one question about all views of a group; else one a view, and the group is meant if any
        (union) or more than half (majority) of them say yes (%(default)s)"""
    add("--combine", choices=COMBINATIONS, default="together", help=combine_help)
    size_help = "longer side of the pictures (default %(default)s)"
    add_limited("--picture-size", 64, 1024, default=512, metavar="PX", help=size_help)
    add("--save-views", metavar="DIR", help="write the pictures with the groups marked")
    add_text_encoder_option(parser)
    add_device_option(parser)
    _add_endpoint_options(parser)
    add("--json", action="store_true", help="print JSON for programs")


def _add_endpoint_options(parser: argparse.ArgumentParser) -> None:
    add, add_limited = parser.add_argument, partial(add_number, parser)
    add("--key-env", metavar="VARIABLE", help="environment variable that holds the endpoint's key")
    add("--key-file", metavar="FILE", help="file that holds the endpoint's key")
    seconds = {"kind": float, "metavar": "S"}
    timeout_help = "seconds that the endpoint may take for an answer (%(default)g)"
    add_limited("--timeout", 0.1, _LONGEST_S, default=45.0, help=timeout_help, **seconds)
    limit_help = "seconds that all answers of the endpoint may take (%(default)g)"
    add_limited("--time-limit", 0.1, _LONGEST_S, default=1800.0, help=limit_help, **seconds)
    rate_help = "ask the endpoint at most so often (default: without a pause)"
    add_limited("--requests-per-minute", 0.01, 1e5, kind=float, metavar="N", help=rate_help)
    most_help = "refuse to ask a model more questions (%(default)s)"
    add_limited("--max-questions", 1, MAX_COUNT, default=500, metavar="N", help=most_help)


def run(args: argparse.Namespace) -> None:
    """Ask about every group; print the groups that are meant; write their pictures."""
    sentence = check_text(args.sentence)
    _check_options(args)
    from tokengroups.grounding import OfflineAnswerer, ScenePictures, ground
    from tokengroups.io.files import check_folder
    from tokengroups.io.scene_photos import find_scene_photos
    from tokengroups.scene import load_scene

    if args.save_views:
        check_folder(args.save_views)
    scene = load_scene(args.scene)
    photos, notes = None, []
    if args.photos:
        photos, notes = find_scene_photos([args.photos], scene.provenance, len(scene.cameras.intrinsics))
    answerer = _answerer(args, scene)
    pictures = ScenePictures(scene, args.picture_size, photos) if answerer.looks or args.save_views else None
    grounding = ground(scene, sentence, answerer, pictures, args.combine, partial(_watch, args))
    notes += grounding.notes()
    if isinstance(answerer, OfflineAnswerer):
        notes += answerer.read(sentence).notes
    files = _save_views(args, grounding, pictures) if pictures is not None and args.save_views else {}
    if pictures is not None:
        notes += pictures.notes
        notes += _photo_notes(scene) if photos else []
    if args.json:
        print_json(_facts(args, grounding, answerer, notes, files))
    else:
        _print(args, grounding, answerer, notes)
        if args.save_views:
            say(f"wrote {counted(sum(map(len, files.values())), 'picture')} to {args.save_views}")


def _check_options(args: argparse.Namespace) -> None:
    """Refuse options that say nothing together."""
    if args.endpoint is not None and args.model is None:
        raise UserError("--endpoint needs the name of a model there: --model NAME")
    if args.endpoint is None and (args.key_env is not None or args.key_file is not None):
        raise UserError("a key is for an endpoint; name one with --endpoint URL")
    if args.key_env is not None and args.key_file is not None:
        raise UserError("give --key-env or --key-file, not both")
    if args.photos and args.model is None and not args.save_views:
        raise UserError("--photos are shown to a model, or written with --save-views; name one with --model")


def _answerer(args: argparse.Namespace, scene: TokenScene) -> Answerer:
    """Who answers: an endpoint, a local model, or the facts of the scene."""
    if args.endpoint is not None:
        from tokengroups.grounding.endpoint import Endpoint, read_key
        from tokengroups.grounding.http import Limits, is_exposed

        key = read_key(args.key_env, args.key_file)
        endpoint = Endpoint(
            args.endpoint, args.model, key, Limits(args.timeout, args.time_limit, args.requests_per_minute)
        )
        if key is not None and is_exposed(endpoint.url):
            note("the key travels unencrypted to this endpoint; use https:// over a network")
        return endpoint
    if args.model is not None:
        from tokengroups.grounding.local_model import LocalModel

        return LocalModel(args.model, pick_device(args.device))
    from tokengroups.grounding import OfflineAnswerer

    return OfflineAnswerer(scene, lambda text: embed(scene, args.text_encoder, [text])[0])


def _watch(args: argparse.Namespace, calls: Sequence[Call]) -> Iterable[Call]:
    """The calls with a progress bar; refuses too many of them."""
    if args.model is None:
        return calls
    if len(calls) > args.max_questions:
        cure = "raise --max-questions, or ask about fewer groups: tokengroups edit keep"
        raise UserError(f"{len(calls):,} questions, more than {args.max_questions:,}; {cure}")
    if args.endpoint is not None and args.requests_per_minute is not None:
        seconds = 60 * (len(calls) - 1) / args.requests_per_minute
        if seconds > args.time_limit:
            rate = f"{len(calls):,} questions at {args.requests_per_minute:g} a minute take {seconds:,.0f} s"
            raise UserError(f"{rate}, longer than --time-limit {args.time_limit:g}; raise it, or the rate")
    return progress(calls, len(calls), "questions")


def _photo_notes(scene: TokenScene) -> list[str]:
    """What photos of an edited scene do not show."""
    if not scene.provenance.get("edits"):
        return []
    return ["the scene was edited, and the photos show it as it was before; leave --photos out to show it as it is"]


def _save_views(args: argparse.Namespace, grounding: Grounding, pictures: ScenePictures) -> dict[int, list[str]]:
    """Write the pictures that were shown, or would be; returns the files of each group."""
    views = {group.id: group.views for group in grounding.groups if group.views} or pictures.best_views()
    drawn = progress(pictures.all_marked(views), sum(map(len, views.values())), "pictures")
    files = iter(save_pictures(args.save_views, drawn))
    return {group: [str(next(files)) for _ in mine] for group, mine in views.items()}


def _facts(
    args: argparse.Namespace, grounding: Grounding, answerer: Answerer, notes: list[str], files: dict[int, list[str]]
) -> dict[str, Any]:
    """Content of the JSON document."""
    kind = "endpoint" if args.endpoint is not None else "model" if args.model is not None else "offline"
    groups = []
    for group in grounding.groups:
        groups.append(asdict(group) | ({"pictures": files.get(group.id, [])} if args.save_views else {}))
    return {
        "sentence": grounding.sentence,
        "answered_by": kind,
        "understood": _understood(grounding, answerer),
        "combine": args.combine if answerer.looks else None,
        "groups": list(grounding.ids),
        "answers": groups,
        "malformed": len(grounding.malformed),
        "unseen": list(grounding.unseen),
        "notes": notes,
    }


def _understood(grounding: Grounding, answerer: Answerer) -> str | None:
    """How the offline answerer has read the sentence; None = not taken apart."""
    from tokengroups.grounding import OfflineAnswerer

    return answerer.read(grounding.sentence).understood if isinstance(answerer, OfflineAnswerer) else None


def _print(args: argparse.Namespace, grounding: Grounding, answerer: Answerer, notes: list[str]) -> None:
    """Print the groups, and the command that would remove them."""
    for message in notes:
        say(f"note: {message}")
    understood = _understood(grounding, answerer)
    if understood is not None:
        say(f"understood: {understood}")
    meant = [group for group in grounding.groups if group.yes]
    known = {group.id: "-" if group.probability is None else f"{group.probability:.2f}" for group in meant}
    if meant:
        print_table([[str(group.id), group.name or "-", known[group.id]] for group in meant], COLUMNS.split(), left={1})
    found = f"{len(meant)} of {counted(len(grounding.groups), 'group')}"
    ids = " ".join(str(group.id) for group in meant)
    say(f"{found}; next: tokengroups edit {args.scene} remove {ids} -o edited.safetensors" if meant else found)
