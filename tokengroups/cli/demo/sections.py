"""Contents of the demo's page: sections made of finished rooms and of an evaluation's numbers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokengroups.cli.demo.page import Gallery, Picture, Section, Table
from tokengroups.cli.demo.steps import Finished
from tokengroups.io.pictures import color_name, group_color

MOST_GROUPS = 11
TITLE = "Photos in, token groups out"
LEAD = (
    "Each room below was reconstructed on this computer, just now, from two photos and nothing else: no "
    "cameras, no depth, no masks. A network turned them into a 3D scene whose objects are groups that "
    "can be listed, moved, removed, put into other scenes and exported. The rooms are computer-made and were "
    "never seen in training."
)
FOOTER = "Made by tokengroups demo. The pictures and scene files lie beside this page; it needs no network."
SCORES = (  # key, name, unit, what it means
    ("psnr", "PSNR of new views", "dB", "rendered against true pictures from places without a photo; higher is better"),
    ("psnr_nearest_view", "... of copying a photo", "dB", "what the nearest input photo scores as an answer"),
    ("ssim", "SSIM of new views", "", "similarity of structure, 1 is perfect"),
    ("lpips", "LPIPS of new views", "", "perceptual distance, lower is better; - without its trunk weights"),
    ("point_error", "Point error", "", "mean distance of predicted from true surface points, over mean distance"),
    ("rotation_error_deg", "Camera rotation error", "deg", "of the second photo's camera, median over the rooms"),
    ("translation_length_ratio", "Baseline, predicted / true", "", "1 is perfect; near 0 = no motion was seen"),
    (
        "recall1_names",
        "Found by name",
        "",
        "share of questions for a class whose first answer covers a thing of it (IoU > 0.25)",
    ),
    ("recall1_unseen", "Found by description", "", "the same with synonyms and descriptions never trained on"),
    ("groups_used", "Groups seen", "", "per room, in at least 100 pixels of the new views"),
    ("seconds_per_scene", "Time per room", "s", "photos to scene"),
)
AP_COLUMNS = (("this model", ""), ("ceiling: true groups", "_oracle"), ("planes + HDBSCAN", "_planes_hdbscan"))
AP_ROWS = (("all", "everything (walls, floor, objects)"), ("objects", "objects alone"))


def room_section(finished: Finished, page_folder: Path) -> Section:
    """The card of one room."""
    room = finished.made.room
    galleries = (
        _photos(finished, page_folder),
        _novel_views(finished, page_folder),
        _groups(finished, page_folder),
        *([_answers(finished, page_folder)] if finished.answers else []),
        _edits(finished, page_folder),
        Gallery(
            "Take it elsewhere",
            "scene.ply opens in any 3D Gaussian Splatting viewer; groups.json says which Gaussians are which "
            "group, cameras.json holds the recovered cameras, and ply/ has one file per group.",
            commands=(finished.export_command,),
        ),
    )
    return Section(
        anchor=f"room-{room.number}",
        link=f"Room {room.number}",
        title=f"Room {room.number}",
        text=f"{len(room.context)} photos, {len(finished.made.groups)} groups found.",
        galleries=galleries,
    )


def numbers_section(numbers: Mapping[str, Any]) -> Section:
    """The card of the evaluation, from `evaluate --json`."""
    rows = [(name, _number(numbers[key], unit), meaning) for key, name, unit, meaning in SCORES]
    ap_rows = [
        (f"{level.upper()}, {what}", *(_number(numbers[f"{level}_{kind}{suffix}"]) for _, suffix in AP_COLUMNS))
        for kind, what in AP_ROWS
        for level in ("ap", "ap50", "ap25")
    ]
    count = numbers["protocol"]["num_scenes"]
    return Section(
        anchor="numbers",
        link="Numbers",
        title="Numbers",
        text=f"Over the {count} rooms of this page: enough to see what is measured, too few to judge by. "
        f"Protocol: {numbers['protocol']['text']}",
        tables=(
            Table(("New views and geometry", "value", "meaning"), rows, numbers=(1,)),
            Table(("Groups: average precision", *(name for name, _ in AP_COLUMNS)), ap_rows, numbers=(1, 2, 3)),
        ),
    )


def _photos(finished: Finished, page: Path) -> Gallery:
    room = finished.made.room
    return Gallery(
        "The photos that went in",
        "The first photo's camera becomes the origin of the scene.",
        [
            Picture(_link(room.folder / "photos" / f"{index:03d}.png", page), f"photo {index + 1}")
            for index in range(len(room.context))
        ],
        finished.made.commands[:1],
    )


def _novel_views(finished: Finished, page: Path) -> Gallery:
    room = finished.made.room
    pictures: list[Picture] = []
    for index in range(len(room.targets)):
        name = f"{index:03d}.png"
        pictures += [
            Picture(_link(room.folder / "novel" / f"color_{name}", page), f"view {index + 1}: rendered"),
            Picture(_link(room.folder / "truth" / name, page), f"view {index + 1}: truth"),
            Picture(_link(room.folder / "novel" / f"groups_{name}", page), f"view {index + 1}: groups"),
        ]
    return Gallery(
        "Views from places without a photo",
        "Rendered from the scene, beside what is really there, and the groups, one colour each. The true "
        "camera only places the virtual one; no picture from there was used. Black = seen in no photo.",
        pictures,
        finished.render_commands[1:],
        size_px=150,
        columns=3,
    )


def _groups(finished: Finished, page: Path) -> Gallery:
    made = finished.made
    shown = made.groups[:MOST_GROUPS]
    more = f" The {len(shown)} most visible of {len(made.groups)} are shown." if len(made.groups) > len(shown) else ""
    pictures = [
        Picture(
            _link(made.room.folder / "groups" / f"group_{group['id']:03d}.png", page),
            f"group {group['id']}",
            f"{group['visible_share']:.1%} of the photos, {group['num_gaussians']:,} Gaussians",
            color_name(group_color(group["id"])),
        )
        for group in shown
    ]
    first = Picture(_link(made.room.folder / "context" / "groups_000.png", page), "photo 1 in groups")
    return Gallery(
        "What was found",
        f"Every group alone, seen from the photo that faces it; its colour is that of the group maps.{more}",
        [first, *pictures],
        made.commands[1:],
        size_px=140,
    )


def _answers(finished: Finished, page: Path) -> Gallery:
    pictures = [
        Picture(
            _link(answer.picture, page),
            f"“{answer.text}”",
            f"described: {answer.thing}; first answer: group {answer.group}, probability {answer.probability:.2f}",
            color_name(group_color(answer.group)),
        )
        for answer in finished.answers
    ]
    return Gallery(
        "Asked in words",
        "Things that are in the photos, by descriptions that training never saw, and the first group that each finds: "
        "right about four times in ten, see the numbers below. The weights know some forty classes of computer-made "
        "things by their names; the text encoder knows which names a description is near to.",
        pictures,
        [answer.command for answer in finished.answers],
        size_px=210,
    )


def _edits(finished: Finished, page: Path) -> Gallery:
    before = Picture(_link(finished.made.room.folder / "context" / "color_000.png", page), "Before", "photo 1's view")
    after = [Picture(_link(edit.picture, page), edit.title, edit.caption) for edit in finished.edits]
    return Gallery(
        "Edits",
        "Groups are edited by their number. Nothing is painted in: what no photo saw stays empty.",
        [before, *after],
        [edit.command for edit in finished.edits],
        size_px=210,
    )


def _number(value: float | None, unit: str = "") -> str:
    if value is None:
        return "-"
    digits = 2 if abs(value) >= 1 else 3
    return f"{value:.{digits}f} {unit}".rstrip()


def _link(path: Path, page_folder: Path) -> str:
    return path.relative_to(page_folder).as_posix()
