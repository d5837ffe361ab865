"""Checkpoints as other authors published them: pickled state dicts, read as tensors alone, never as code."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from tokengroups.errors import UserError
from tokengroups.io.hub import hub_folder
from tokengroups.reading import check_file, path_kind, shown

SUFFIXES = (".pth", ".pt")
_WRAPPERS = ("model", "state_dict")  # entries of a dictionary that holds more than the weights
_PREFIX = "module."  # of a data-parallel wrapper
_BEGINNING = 2**24  # bytes of a checkpoint in which all its names are
_DAMAGED = "damaged or truncated, or no PyTorch checkpoint; get the file again"
# A part of the names that only one kind of checkpoint has.
_KINDS = {"SegVGGT": "semantic_head.", "IGGT": "part_head."}
_VGGT = "aggregator."


@dataclass(frozen=True)
class Release:
    """Checkpoints in a repository of the model hub."""

    hub_id: str
    files: tuple[str, ...]  # paths in the repository; the id alone stands for the first one

    def holds(self, source: str | Path) -> bool:
        """Whether the source is the hub's, here or not, or a folder with one of the files."""
        kind = path_kind(source)
        return bool(self._in_folder(Path(source))) if kind == "folder" else kind == "missing" and self._on_hub(source)

    def find(self, source: str | Path) -> Path:
        """Local path of a file, of the file in a folder, or of the hub's; the hub's is downloaded if it is not cached.

        Raises:
            UserError: There is none, or a folder holds several.
        """
        path, kind = Path(source), path_kind(source)
        if kind == "folder":
            found = self._in_folder(path)
            if len(found) > 1:
                raise UserError(f"{shown(path)} holds {' and '.join(f.name for f in found)}; give one of the files")
            return found[0] if found else check_file(path / self.files[0], "download it from the model's page")
        if kind == "missing" and self._on_hub(source):
            name = str(source)[len(self.hub_id) + 1 :] or self.files[0]
            path = hub_folder(self.hub_id, [name]) / name
        names = " or ".join(Path(name).name for name in self.files)
        return check_file(path, f"give {names}, its folder, or the hub id {self.hub_id}")

    def _on_hub(self, source: str | Path) -> bool:
        return str(source) in (self.hub_id, *(f"{self.hub_id}/{name}" for name in self.files))

    def _in_folder(self, folder: Path) -> list[Path]:
        places = dict.fromkeys(folder / part for name in self.files for part in (name, Path(name).name))
        return [path for path in places if path_kind(path) == "file"]


def mentions(path: str | Path, part: str) -> bool:
    """Whether a name of a checkpoint contains the part; quick, and false for whatever cannot be read."""
    try:
        with Path(path).open("rb") as file:
            return part.encode() in file.read(_BEGINNING)
    except OSError:
        return False


def read_state(path: Path, wanted: str) -> dict[str, Tensor]:
    """Tensors of a checkpoint by their names, without a wrapper's entry and prefix; mapped from the file.

    Args:
        path: The file.
        wanted: What to give instead, for messages.

    Raises:
        UserError: It is damaged, holds more than tensors and plain values, or no state dict.
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # about pickles that are refused below
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        what = "holds more than tensors, so it may run code; give a checkpoint of tensors"
        raise UserError(f"{shown(path)}: {what if 'unsupported GLOBAL' in str(error) else _DAMAGED}") from None
    except Exception as error:  # whatever a damaged pickle makes of its reader
        raise UserError(f"{shown(path)}: {_DAMAGED}") from error
    tensors = content if isinstance(content, Mapping) else {}
    for name in _WRAPPERS:
        tensors = tensors[name] if isinstance(tensors.get(name), Mapping) else tensors
    if not tensors or not all(isinstance(n, str) and _is_plain(t) for n, t in tensors.items()):
        raise UserError(f"{shown(path)}: no state dict (a mapping of names to dense real tensors); give {wanted}")
    return {name.removeprefix(_PREFIX): tensor for name, tensor in tensors.items()}


def _is_plain(value: object) -> bool:
    return isinstance(value, Tensor) and value.layout == torch.strided and not value.is_complex()


def check_kind(path: Path, tensors: Mapping[str, Tensor], system: str, parts: tuple[str, ...]) -> None:
    """Say what a checkpoint is if it lacks one of the system's parts, which names begin with.

    Raises:
        UserError: It does.
    """

    def has(part: str) -> bool:
        return any(name.startswith(part) for name in tensors)

    if all(map(has, parts)):
        return
    other = next((kind for kind, part in _KINDS.items() if kind != system and has(part)), None)
    found = "the checkpoint of another model"
    if other is not None:
        found = f"{'an' if other[0] in 'AEIO' else 'a'} {other} checkpoint"
    elif has(_VGGT):
        others = " or ".join(f"{kind}'s ({part.rstrip('.')})" for kind, part in _KINDS.items() if kind != system)
        found = f"VGGT weights without {system}'s instance branch, or {others}"
    raise UserError(f"{shown(path)}: {found}; {system}'s has {', '.join(part.rstrip('.') for part in parts)}")
