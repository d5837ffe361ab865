"""Checkpoints as other authors published them: where they are, and what they hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from tokengroups.checkpoint import PICKLES, find_checkpoint, map_checkpoint
from tokengroups.encoders.published import KINDS, VGGT_IDS, article, kind_of
from tokengroups.errors import UserError
from tokengroups.io.hub import WEIGHT_FILES, hub_folder, is_hub_id
from tokengroups.reading import check_file, path_kind, shown


@dataclass(frozen=True)
class Release:
    """Checkpoints in a repository of the model hub."""

    hub_id: str
    files: tuple[str, ...]  # paths in the repository; the id alone stands for the first one

    def on_hub(self, source: str | Path) -> bool:
        """Whether the source is the hub's, with or without a file."""
        return str(source) in (self.hub_id, *(f"{self.hub_id}/{name}" for name in self.files))

    def find(self, source: str | Path) -> Path:
        """Local path of a file, of the file in a folder, or of the hub's; the hub's is downloaded if it is not cached.

        Raises:
            UserError: There is none, or a folder holds several.
        """
        path, kind = Path(source), path_kind(source)
        if kind == "folder":
            places = dict.fromkeys(path / part for name in self.files for part in (name, Path(name).name))
            found = [place for place in places if path_kind(place) == "file"]
            if len(found) > 1:
                raise UserError(f"{shown(path)} holds {' and '.join(f.name for f in found)}; give one of the files")
            return found[0] if found else find_checkpoint(path)
        if kind == "missing" and self.on_hub(source):
            name = str(source)[len(self.hub_id) + 1 :] or self.files[0]
            return check_file(hub_folder(self.hub_id, [name]) / name, "the hub does not hold it")
        names = " or ".join(Path(name).name for name in self.files)
        return find_checkpoint(check_file(path, f"give {names}, its folder, or the hub id {self.hub_id}"))


RELEASES = {
    "SegVGGT": Release("JinyuanQu/SegVGGT", ("checkpoint/segvggt_scannet200.pt", "checkpoint/segvggt_scannetv2.pt")),
    "IGGT": Release("lifuguan/IGGT_official", ("iggt_checkpoint.pth",)),
}


def kind_on_hub(source: str | Path) -> str:
    """The kind of a published hub id, a key of `KINDS`; "" for anything else."""
    if path_kind(source) != "missing":
        return ""
    if str(source) in VGGT_IDS:
        return "VGGT"
    return next((kind for kind, release in RELEASES.items() if release.on_hub(source)), "")


def may_be_on_hub(source: str | Path) -> bool:
    """Whether a user who typed the source can have meant the hub: no such path, nor its first folder."""
    text = str(source)
    if isinstance(source, Path) or not is_hub_id(text) or Path(text).suffix.lower() in (*PICKLES, ".safetensors"):
        return False
    return path_kind(text) == path_kind(text.partition("/")[0]) == "missing"


def fetch(source: str) -> Path:
    """Folder with the weights of a hub id that is none of the published ones; errors as `hub_folder`'s."""
    return hub_folder(source, list(WEIGHT_FILES))


def published_file(source: str | Path) -> Path:
    """The checkpoint of a local path; errors as `find_checkpoint`'s."""
    if path_kind(source) == "folder":
        for release in RELEASES.values():
            if any(path_kind(Path(source) / name) == "file" for name in release.files):
                return release.find(source)
    return find_checkpoint(Path(source))


def kind_of_file(path: Path) -> str:
    """The kind of a checkpoint, a key of `KINDS`, by the names of its tensors, which are not read.

    Raises:
        UserError: It is none of them, or unreadable.
    """
    tensors = map_checkpoint(path, check=False)
    kind = kind_of(tensors)
    if not kind:
        known = ", ".join(KINDS)
        some = ", ".join(shown(name) for name in sorted(tensors)[:2])
        raise UserError(f"{shown(path)}: the checkpoint of another model ({some}, ...); this package has {known}")
    return kind


def check_kind(path: Path, tensors: Mapping[str, Tensor], system: str, parts: tuple[str, ...]) -> None:
    """Say what a checkpoint is if it lacks one of the system's parts, which names begin with.

    Raises:
        UserError: It does.
    """

    def has(part: str) -> bool:
        return any(name.startswith(part) for name in tensors)

    if all(map(has, parts)):
        return
    kind = kind_of(tensors)
    found = f"{article(kind)} checkpoint" if kind else "the checkpoint of another model"
    if kind in ("VGGT", system):
        found = f"VGGT weights without all of {system}'s instance branch"
    raise UserError(f"{shown(path)}: {found}; {system}'s has {', '.join(part.rstrip('.') for part in parts)}")
