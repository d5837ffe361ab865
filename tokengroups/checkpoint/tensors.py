"""Safetensors files with a digest of their content."""

from __future__ import annotations

import contextlib
import json
import os
import re
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from tokengroups.errors import UserError
from tokengroups.io.files import atomic_path
from tokengroups.reading import check_file, malformed, shown

UNCHECKED = "TOKENGROUPS_UNCHECKED"  # environment variable: 1 = tensors are not compared with their digest
_DIGEST, _DIGEST_FORM = "digest", "crc32:"  # metadata key, and how its value begins


def read_tensors(path: str | Path, *, check: bool | None = None) -> dict[str, Tensor]:
    """Read all tensors of a safetensors file, mapped into memory: they are read when they are used.

    Args:
        path: The file.
        check: Compare tensors and metadata with the file's digest, if it has one. None: unless the environment
            variable TOKENGROUPS_UNCHECKED is 1, which saves some seconds with files of many gigabytes.

    Raises:
        UserError: The file is missing, unreadable, truncated, damaged or not safetensors at all.
    """
    with _reading(path) as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        metadata = dict(file.metadata() or {})
    if check is None:
        check = os.environ.get(UNCHECKED) != "1"
    # The value shows that there is a digest even where its key is damaged. Files of other programs have none.
    has_digest = any(key == _DIGEST or value.startswith(_DIGEST_FORM) for key, value in metadata.items())
    if check and has_digest and metadata.pop(_DIGEST, "") != _digest(tensors, metadata):
        raise UserError(f"cannot read {shown(path)}: damaged, it differs from its own digest; get a fresh copy")
    return tensors


def read_metadata(path: str | Path) -> dict[str, str]:
    """Read the text metadata of a safetensors file without its tensors and unchecked; errors as in `read_tensors`."""
    with _reading(path) as file:
        return {key: value for key, value in (file.metadata() or {}).items() if key != _DIGEST}


@contextlib.contextmanager
def _reading(path: str | Path) -> Iterator[Any]:
    """Open with `safe_open`; its failures, on opening and later, become a `UserError`."""
    path = check_file(path)
    try:
        with malformed(path, "get a fresh copy"), safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"cannot read {shown(path)}: not a safetensors file, or a truncated or damaged one ({shown(error)}); "
            "get a fresh copy"
        ) from None


def _digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """CRC-32 of all metadata, names, types, shapes and values; it finds damage, not forgery."""
    names = sorted(tensors)
    shapes = [[name, str(tensors[name].dtype), list(tensors[name].shape)] for name in names]
    crc = zlib.crc32(json.dumps([sorted(metadata.items()), shapes]).encode())
    for name in names:
        if tensors[name].numel():
            crc = zlib.crc32(tensors[name].reshape(-1).view(torch.uint8).numpy().data, crc)
    return f"{_DIGEST_FORM}{crc:08x}"


def _sort_metadata(path: Path) -> None:
    """Sort metadata in place, which safetensors writes in random order: equal content gives equal files."""
    with path.open("r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        if len(text) <= size:  # else it escapes characters otherwise, and stays as it is
            file.seek(8)
            file.write(text.ljust(size))


def write_tensors(
    path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None, *, durable: bool = True
) -> None:
    """Write a safetensors file with a digest atomically: on any failure an existing file stays as it was.

    The folder must exist. Tensors are stored contiguous, with their dtype.

    Args:
        path: The file.
        tensors: On any device.
        metadata: Texts by name; ``digest`` is set here.
        durable: Wait until the disk has the content; for what cannot be made again at once.

    Raises:
        UserError: The operating system refused to write.
    """
    stored: dict[str, Tensor] = {}
    storages = set()  # safetensors refuses tensors that share memory
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        storage = tensor.untyped_storage().data_ptr()
        stored[name] = tensor.clone() if storage in storages else tensor
        storages.add(storage)
    texts = {key: value for key, value in (metadata or {}).items() if key != _DIGEST}
    texts[_DIGEST] = _digest(stored, texts)
    with atomic_path(path, durable=durable) as temporary:
        try:
            save_file(stored, temporary, texts)
            _sort_metadata(temporary)
        except SafetensorError as error:  # wraps the system's error as text: "... (os error 28)"
            code = re.search(r"os error (\d+)", str(error))
            if code is None:
                raise
            raise OSError(int(code.group(1)), str(error)) from error
