"""Many scenes by one command: found in folders or a list, shared by processes, resumed, each with a line of JSON."""

from __future__ import annotations

import contextlib
import json
import os
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokengroups.cli.failures import reason
from tokengroups.cli.output import counted, say
from tokengroups.cli.streams import complain
from tokengroups.errors import UserError
from tokengroups.reading import path_kind, read_text, shown

if TYPE_CHECKING:
    from tokengroups.training.shares import Processes

RESULTS = "results.jsonl"
_COMMENT = "#"
_ADVICE = "give folders of photos, videos, or a text file with one of them a line"
Make = Callable[[str, Path], dict[str, Any]]  # makes the scene of a folder or video; returns its `scene_summary`


@dataclass(frozen=True)
class BatchScene:
    """One scene of a batch."""

    name: str
    source: Path  # folder of photos, or a video
    output: Path


def find_scenes(given: Sequence[str], out: Path) -> list[BatchScene]:
    """The scenes of folders, videos and lists, each with a name and a file of its own.

    A folder without photos and videos stands for the folders in it. Lines of a list are relative to its folder; what is
    wrong with them shows when their scene is made. Scenes are named after their folder, or, where two have the same
    name, after the path below the folder of all.

    Raises:
        UserError: Nothing there, or an empty list.
    """
    sources = list(dict.fromkeys(Path(os.path.abspath(path)) for word in given for path in _expanded(Path(word))))
    if not sources:
        raise UserError(f"--batch {shown(given[0])}: no scene in it; {_ADVICE}")
    names = [source.stem if path_kind(source) == "file" else source.name for source in sources]
    if len(set(names)) < len(names):
        root = os.path.commonpath([source.parent for source in sources])
        names = ["_".join(source.relative_to(root).with_suffix("").parts) for source in sources]
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise UserError(f"--batch: two scenes would be named {shown(repeated[0])}; rename one of them")
    return [BatchScene(name, path, out / f"{name}.safetensors") for name, path in zip(names, sources, strict=True)]


def check_masks(scenes: Sequence[BatchScene], folder: Path) -> None:
    """Refuse masks of ignored pixels that photos of several scenes would share.

    Raises:
        UserError: No mask of any photo, or one of several photos.
    """
    from tokengroups.io.images import find_photos, is_video
    from tokengroups.io.matching import find_masks

    photos = []
    for scene in scenes:
        with contextlib.suppress(UserError):  # what is wrong with a scene shows when it is made
            photos += [] if is_video(scene.source) else find_photos(scene.source)
    if photos:
        find_masks(folder, photos)


def run_batch(scenes: Sequence[BatchScene], out: Path, make: Make, processes: Processes, as_json: bool) -> int:
    """Make the scenes of this process's share; returns the exit code, 1 if any scene of any process failed.

    Scenes whose file exists are skipped. Each process appends to its own file; the first one joins them in the end.
    """
    mine = processes.share(scenes)
    log = out / (RESULTS if processes.count == 1 else f"results.{processes.index}.jsonl")
    failed = 0
    for number, scene in enumerate(mine, 1):
        row = _made(scene, make)
        failed += "error" in row
        if "skipped" not in row:
            with open(log, "a", encoding="utf-8") as file:
                file.write(f"{json.dumps(row)}\n")
        _print(row, f"[{number}/{len(mine)}] ", as_json)
    total = processes.total(failed)
    if processes.index == 0:
        rows = join_results(out, scenes)
        if not as_json:
            made = sum("error" not in row for row in rows)
            say(f"{counted(made, 'scene')} of {len(scenes)} made; see {out / RESULTS}")
    return 1 if total else 0


def join_results(out: Path, scenes: Sequence[BatchScene]) -> list[dict[str, Any]]:
    """Write one line a scene from what all processes and earlier runs appended; returns those of these scenes.

    A failure counts only where there is no scene file, anything else only where there is one.
    """
    from tokengroups.io.files import write_text

    parts = [out / RESULTS, *sorted(out.glob("results.*.jsonl"))]
    rows: dict[str, dict[str, Any]] = {}
    for row in (row for part in parts for row in _rows(part)):
        if ("error" in row) != (path_kind(out / f"{row['name']}.safetensors") == "file"):
            rows[row["name"]] = row
    for scene in scenes:
        if path_kind(scene.output) == "file":
            rows.setdefault(scene.name, _skipped(scene))
    write_text(out / RESULTS, "".join(f"{json.dumps(row)}\n" for row in rows.values()))
    for part in parts[1:]:
        with contextlib.suppress(FileNotFoundError):
            part.unlink()
    return [rows[scene.name] for scene in scenes if scene.name in rows]


def _made(scene: BatchScene, make: Make) -> dict[str, Any]:
    """Make a scene; returns its line."""
    if path_kind(scene.output) == "file":
        return _skipped(scene)
    try:
        summary = make(str(scene.source), scene.output)
    except Exception as error:
        text = reason(error)
        if text is None:  # a fault of the program is no reason to lose a night's work, but it is not hidden
            complain(traceback.format_exc())
            text = f"{type(error).__name__}: {error}"
        return {"name": scene.name, "output": str(scene.output), "error": " ".join(text.split())}
    return {
        "name": scene.name,
        "output": str(scene.output),
        "seconds": summary["seconds"],
        "photos": len(summary["photos"]),
        "groups": summary["num_groups"],
        "gaussians": summary["num_gaussians"],
        "notes": summary["notes"],
    }


def _skipped(scene: BatchScene) -> dict[str, Any]:
    return {"name": scene.name, "output": str(scene.output), "skipped": True}


def _print(row: dict[str, Any], count: str, as_json: bool) -> None:
    if as_json:
        say(json.dumps(row))
    elif "error" in row:
        say(f"{count}{row['name']}: failed: {row['error']}")
    elif "skipped" in row:
        say(f"{count}{row['name']}: skipped, as {row['output']} exists")
    else:
        for message in row["notes"]:
            say(f"note: {message}")
        made = f"{counted(row['photos'], 'photo')} -> {counted(row['groups'], 'group')}"
        say(f"{count}{row['name']}: {made}, {counted(row['gaussians'], 'Gaussian')} in {row['seconds']:.2f} s")


def _expanded(path: Path) -> list[Path]:
    """Folders and videos that a word of the user stands for."""
    from tokengroups.io.files import natural_key
    from tokengroups.io.images import PHOTO_SUFFIXES, is_video

    kind = path_kind(path)
    if kind == "file":
        return [path] if is_video(path) else list(_listed(path))
    if kind != "folder":
        raise UserError(f"--batch {shown(path)}: no such file or folder; {_ADVICE}")
    inside = [entry for entry in path.iterdir() if not entry.name.startswith(".")]
    if any(entry.suffix.lower() in PHOTO_SUFFIXES or is_video(entry) for entry in inside if entry.is_file()):
        return [path]
    return sorted((entry for entry in inside if entry.is_dir()), key=lambda entry: natural_key(entry.name)) or [path]


def _listed(path: Path) -> Iterable[Path]:
    lines = (line.strip() for line in read_text(path, _ADVICE).splitlines())
    return [path.parent / line for line in lines if line and not line.startswith(_COMMENT)]


def _rows(path: Path) -> Iterable[dict[str, Any]]:
    """Lines of an earlier run; one that a killed process left unfinished is passed over."""
    if path_kind(path) != "file":
        return
    for line in read_text(path).splitlines():
        with contextlib.suppress(ValueError):
            row = json.loads(line)
            if isinstance(row, dict) and isinstance(row.get("name"), str):
                yield row
