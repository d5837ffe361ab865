"""Checkpoints as other programs write them: safetensors whole or in shards, and pickles, read as tensors alone."""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from tokengroups.checkpoint.folders import WEIGHTS_FILE
from tokengroups.checkpoint.tensors import read_tensors
from tokengroups.errors import UserError
from tokengroups.reading import check_file, path_kind, read_json, shown

PICKLES = (".pt", ".pth", ".bin", ".ckpt")
INDEX_FILE = f"{WEIGHTS_FILE}.index.json"  # of a folder of shards: the shard of every tensor
_WRAPPERS = ("model", "state_dict")  # entries of a dictionary that holds more than the weights
_PREFIXES = ("module.", "model.")  # of a data-parallel wrapper, and of a class that holds the network
_SHARD = re.compile(r".+-\d+-of-(\d+)\.safetensors")
_DAMAGED = "damaged or truncated, or no PyTorch checkpoint; get the file again"


def find_checkpoint(path: Path) -> Path:
    """The file to read: the path itself, or what a folder holds: its weights, the index of its shards, its only file.

    Raises:
        UserError: There is none, several, or the path is one shard.
    """
    if path_kind(path) != "folder":
        if shards := _SHARD.fullmatch(path.name):
            raise UserError(f"{shown(path)}: one of {int(shards[1])} shards; give the folder with all and {INDEX_FILE}")
        return check_file(path)
    for name in (WEIGHTS_FILE, INDEX_FILE):
        if path_kind(path / name) == "file":
            return path / name
    for suffixes in ((".safetensors",), PICKLES):
        found = sorted(file for file in path.iterdir() if file.suffix.lower() in suffixes)
        if len(found) > 1 and all(_SHARD.fullmatch(file.name) for file in found):
            raise UserError(f"{shown(path)} holds shards without {INDEX_FILE}; download it into this folder")
        if len(found) > 1:
            raise UserError(f"{shown(path)} holds {shown(' and '.join(file.name for file in found))}; give one of them")
        if found:
            return check_file(found[0])
    raise UserError(f"no {WEIGHTS_FILE} in {shown(path)}; download it from the model's page into this folder")


def map_checkpoint(path: Path, *, check: bool | None = None) -> dict[str, Tensor]:
    """Tensors by their names, without a wrapper's entry and prefix; mapped from the file, in the file's precision.

    Args:
        path: A file as `find_checkpoint` finds it.
        check: As for `read_tensors`.

    Raises:
        UserError: Damaged, missing shards, more than tensors and plain values, or no state dict.
    """
    if path.suffix.lower() in PICKLES:
        tensors = _read_pickle(path)
    elif path.name.endswith(".index.json"):
        tensors = _read_shards(path, check)
    else:
        tensors = read_tensors(path, check=check)
    for prefix in _PREFIXES:
        if tensors and all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors


def _read_shards(index: Path, check: bool | None) -> dict[str, Tensor]:
    """Tensors of all shards; their index must agree with them."""
    content = read_json(index, "get the file again")
    places = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(places, dict) or not all(isinstance(name, str) for name in places.values()):
        raise UserError(f"{shown(index)}: lacks 'weight_map', the file of every tensor; get the file again")
    tensors: dict[str, Tensor] = {}
    for name in sorted(set(places.values())):
        if Path(name).name != name:
            raise UserError(f"{shown(index)}: names {shown(name)}, outside of its folder; get the file again")
        shard = check_file(index.parent / name, "download all shards that the index names")
        tensors |= read_tensors(shard, check=check)
    missing = places.keys() - tensors.keys()
    if missing:
        raise UserError(f"{shown(index)}: its shards lack {shown(min(missing))}; get the files again")
    return tensors


def _read_pickle(path: Path) -> dict[str, Tensor]:
    """Tensors of a file of torch.save."""
    path = check_file(path)
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
        raise UserError(f"{shown(path)}: no state dict (a mapping of names to dense real tensors)")
    return dict(tensors)


def _is_plain(value: object) -> bool:
    return isinstance(value, Tensor) and value.layout == torch.strided and not value.is_complex()
