"""Sections of the demo's page: run the commands of a room and show their results; tabulate an evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from tokengroups.cli.demo.page import Gallery, Picture, Section, Table
from tokengroups.cli.demo.rooms import Reconstructed, Room, likely_objects, query_room, run_command
from tokengroups.geometry import relative_cameras
from tokengroups.io.cameras import save_cameras
from tokengroups.io.pictures import color_name, group_color
from tokengroups.types import Cameras

MOST_GROUPS = 11
SHIFT = 0.6  # of a moved object, in its own widths
SCORES = (  # key, name, unit, explanation
    ("psnr", "PSNR of new views", "dB", "rendered against true pictures from places without a photo; higher is better"),
    ("psnr_nearest_view", "... of copying a photo", "dB", "of the nearest input photo in place of the rendering"),
    ("ssim", "SSIM of new views", "", "similarity of structure, 1 is perfect"),
    ("lpips", "LPIPS of new views", "", "perceptual distance, lower is better; - without its trunk weights"),
    ("point_error", "Point error", "", "mean distance of predicted from true surface points, over mean distance"),
    ("rotation_error_deg", "Camera rotation error", "deg", "of the second photo's camera, median over the rooms"),
    ("translation_length_ratio", "Baseline, predicted / true", "", "1 is perfect; near 0 = no motion was found"),
    ("recall1_names", "Found by name", "", "share of names whose first answer covers such an object (IoU > 0.25)"),
    ("recall1_unseen", "Found by description", "", "the same with synonyms and descriptions never trained on"),
    ("groups_used", "Groups seen", "", "per room, in at least 100 pixels of the new views"),
    ("seconds_per_scene", "Time per room", "s", "photos to scene"),
)
AP_COLUMNS = (("this model", ""), ("ceiling: true groups", "_oracle"), ("planes + HDBSCAN", "_planes_hdbscan"))
AP_ROWS = (("all", "everything (walls, floor, objects)"), ("objects", "objects alone"))


def room_section(made: Reconstructed, donor: Reconstructed, scale: float) -> Section:
    """Render, query, edit and export one room, and show the pictures.

    Args:
        made: The room.
        donor: Another room, whose first object is inserted.
        scale: Scene units per metre, from the evaluation: it places the true target cameras in the scene.
    """
    room = made.room
    galleries = [_photos(made), _viewer(room), _novel_views(room, scale), _groups(made)]
    galleries += [*_answers(room), _edits(made, donor)]
    text = f"{len(room.context)} photos, {len(made.groups)} groups found."
    return Section(f"room-{room.number}", f"Room {room.number}", text, [*galleries, _export(room)])


def numbers_section(numbers: Mapping[str, Any]) -> Section:
    """Tabulate the output of `evaluate --json`."""
    rows = [(name, _number(numbers[key], unit), explanation) for key, name, unit, explanation in SCORES]
    ap_rows = [
        (f"{level.upper()}, {what}", *(_number(numbers[f"{level}_{kind}{suffix}"]) for _, suffix in AP_COLUMNS))
        for kind, what in AP_ROWS
        for level in ("ap", "ap50", "ap25")
    ]
    text = (
        f"Over the {numbers['protocol']['num_scenes']} rooms of this page: enough to see what is measured, too few to "
        f"judge by. Protocol: {numbers['protocol']['text']}"
    )
    tables = (
        Table(("New views and geometry", "value", "explanation"), rows, numbers=(1,)),
        Table(("Groups: average precision", *(name for name, _ in AP_COLUMNS)), ap_rows, numbers=(1, 2, 3)),
    )
    return Section("numbers", "Numbers", text, tables=tables)


def _photos(made: Reconstructed) -> Gallery:
    count = len(made.room.context)
    return Gallery(
        "The photos that went in",
        "The first photo's camera becomes the origin of the scene.",
        [_picture(made.room, f"photos/{index:03d}.png", f"photo {index + 1}") for index in range(count)],
        made.commands[:1],
    )


def _viewer(room: Room) -> Gallery:
    """Write the room as a page of its own, and link it."""
    return Gallery(
        "Look around",
        "The room in the browser: turn around it, click a group, hide it. The page is one file and needs no other.",
        commands=[
            run_command("view", room.scene, "--html", room.folder / "view.html", "--photos", room.folder / "photos")
        ],
        link=f"{room.folder.name}/view.html",
        link_text="Open the room",
    )


def _novel_views(room: Room, scale: float) -> Gallery:
    cameras = _save_target_cameras(room, scale)
    what = ("--what", "color,groups")
    run_command("render", room.scene, "--camera", "context:0", "-o", room.folder / "context", *what)
    command = run_command("render", room.scene, "--camera", cameras, "-o", room.folder / "novel", *what)
    pictures: list[Picture] = []
    for index in range(len(room.targets)):
        name, view = f"{index:03d}.png", f"view {index + 1}"
        pictures += [
            _picture(room, f"novel/color_{name}", f"{view}: rendered"),
            _picture(room, f"truth/{name}", f"{view}: truth"),
            _picture(room, f"novel/groups_{name}", f"{view}: groups"),
        ]
    return Gallery(
        "Views from places without a photo",
        "Rendered from the scene, beside the true picture, and the groups, one colour each. The true "
        "camera only places the virtual one; no picture from there was used. Black = seen in no photo.",
        pictures,
        [command],
        size_px=150,
        columns=3,
    )


def _save_target_cameras(room: Room, scale: float) -> Path:
    """Write the true target cameras in the world of the scene, of `scale` units per metre; returns the file."""
    poses = torch.from_numpy(room.frames.cam_from_world)
    targets = list(room.targets)
    relative = relative_cameras(poses[targets], poses[room.context[0]], poses.new_tensor(scale))
    intrinsics = torch.from_numpy(room.frames.intrinsics)[targets]
    height, width = room.frames.images.shape[1:3]
    path = room.folder / "targets.json"
    save_cameras(path, Cameras(relative, intrinsics, (height, width)))
    return path


def _groups(made: Reconstructed) -> Gallery:
    shown = made.groups[:MOST_GROUPS]
    more = f" The {len(shown)} most visible of {len(made.groups)} are shown." if len(made.groups) > len(shown) else ""
    pictures = [_picture(made.room, "context/groups_000.png", "photo 1 in groups")]
    for group in shown:
        caption = f"{group['visible_share']:.1%} of the photos, {group['num_gaussians']:,} Gaussians"
        name = f"groups/group_{group['id']:03d}.png"
        pictures.append(_picture(made.room, name, f"group {group['id']}", caption, group["id"]))
    return Gallery(
        "What was found",
        f"Every group alone, seen from the photo that faces it; its colour is that of the group maps.{more}",
        pictures,
        made.commands[1:],
        size_px=140,
    )


def _answers(room: Room) -> list[Gallery]:
    """Query the room; no gallery where nothing can be queried."""
    answers = query_room(room)
    if not answers:
        return []
    pictures = []
    for answer in answers:
        caption = f"described: {answer.thing}; first answer: group {answer.group}, probability {answer.probability:.2f}"
        name = answer.picture.relative_to(room.folder).as_posix()
        pictures.append(_picture(room, name, f"“{answer.text}”", caption, answer.group))
    text = (
        "Objects in the photos, by descriptions that training never used, and the first group that each finds: "
        "right about four times in ten, see the numbers below. The weights were trained on the names of some forty "
        "classes of computer-made objects; the text encoder finds the names that are near to a description."
    )
    return [Gallery("Asked in words", text, pictures, [answer.command for answer in answers], size_px=210)]


def _edits(made: Reconstructed, donor: Reconstructed) -> Gallery:
    """Remove one object, move another, and put one of another room into the place of the removed one."""
    room, objects, guest = made.room, likely_objects(made.groups), likely_objects(donor.groups)[0]
    removed, moved = objects[0], objects[min(1, len(objects) - 1)]
    shift = SHIFT * moved["size"][0] * (-1 if moved["centre"][0] > 0 else 1)
    insertion = ("insert", f"{donor.room.scene}:{guest['id']}", "--at", *(f"{x:.3f}" for x in removed["centre"]))
    inserted = f"group {guest['id']} of room {donor.room.number} in the place of group {removed['id']}"
    edits: tuple[tuple[str, str, tuple[object, ...]], ...] = (
        ("removed", f"group {removed['id']} is gone", ("remove", removed["id"])),
        ("moved", f"group {moved['id']} shifted sideways", ("move", moved["id"], f"{shift:.3f}", 0, 0)),
        ("inserted", inserted, ("remove", removed["id"], *insertion)),
    )
    pictures, commands = [_picture(room, "context/color_000.png", "Before", "photo 1's view")], []
    for name, caption, operations in edits:
        output = room.folder / f"{name}.safetensors"
        commands.append(run_command("edit", room.scene, *operations, "-o", output, "--render", room.folder / name))
        pictures.append(_picture(room, f"{name}/after_000.png", name.capitalize(), caption))
    text = "Groups are edited by their number. Nothing is painted in: places that no photo shows stay empty."
    return Gallery("Edits", text, pictures, commands, size_px=210)


def _export(room: Room) -> Gallery:
    words = ("export", room.scene, "-o", room.folder / "scene.ply", "--groups", room.folder / "ply")
    return Gallery(
        "Take it elsewhere",
        "scene.ply opens in any 3D Gaussian Splatting viewer; groups.json lists the Gaussians of each group, "
        "cameras.json holds the recovered cameras, and ply/ has one file per group.",
        commands=[run_command(*words)],
    )


def _picture(room: Room, name: str, title: str, caption: str = "", group: int | None = None) -> Picture:
    """Link a file of the room's folder, which lies beside the page; a group adds a chip of its colour."""
    colour = "" if group is None else color_name(group_color(group))
    return Picture(f"{room.folder.name}/{name}", title, caption, colour)


def _number(value: float | None, unit: str = "") -> str:
    if value is None:
        return "-"
    digits = 2 if abs(value) >= 1 else 3
    return f"{value:.{digits}f} {unit}".rstrip()
