"""Safetensors files with a digest of their content, weight folders, and strict loading into modules."""

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
from torch import Tensor, nn

from tokengroups.errors import UserError
from tokengroups.io.files import atomic_path, make_folder, write_text
from tokengroups.reading import check_file, malformed, path_kind, read_json, shown

WEIGHTS_FILE, CONFIG_FILE = "model.safetensors", "config.json"
SHIPPED = Path(__file__).parent / "weights"
UNCHECKED = "TOKENGROUPS_UNCHECKED"  # environment variable: 1 = tensors are not compared with their digest
_DIGEST, _DIGEST_FORM = "digest", "crc32:"  # metadata key, and how its value begins
_STORAGE = "storage"  # metadata key of weight files; "float16": stored in half precision, used in float32
_LARGEST_CONFIG = 2**20  # bytes
_KEYS_SHOWN = 3


def read_tensors(path: str | Path, *, check: bool | None = None) -> dict[str, Tensor]:
    """Read all tensors of a safetensors file into memory.

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
        except SafetensorError as error:  # wraps the system's error as text: "... (os error 28)"
            code = re.search(r"os error (\d+)", str(error))
            if code is None:
                raise
            raise OSError(int(code.group(1)), str(error)) from error


def shipped_weights() -> list[str]:
    """Names of the weight folders that come with the package."""
    return sorted(folder.parent.name for folder in SHIPPED.glob(f"*/{CONFIG_FILE}"))


def find_weights(source: str | Path) -> Path | None:
    """Find the weight folder of a shipped name or a path; None if there is none."""
    for folder in (SHIPPED / str(source), Path(source)):
        if path_kind(folder / CONFIG_FILE) == "file":
            return folder
    return None


def save_weights(
    folder: str | Path, state_dict: Mapping[str, Tensor], config: Mapping[str, Any], half: bool = False
) -> None:
    """Write a weight folder: ``model.safetensors`` and the readable ``config.json`` that builds the model.

    Args:
        folder: Created where missing; its files are replaced one by one, atomically.
        state_dict: State of the module.
        config: Plain values, as from `tokengroups.config.config_to_dict`.
        half: Store float32 tensors as float16 (half the size); `load_weights` gives float32 back.

    Raises:
        UserError: The operating system refused to write.
        ValueError: `half`, and a value does not fit into float16.
    """
    folder = make_folder(folder)
    metadata = {"format": "pt"}
    if half:
        state_dict = {name: _halved(name, tensor) for name, tensor in state_dict.items()}
        metadata[_STORAGE] = "float16"
    write_text(folder / CONFIG_FILE, json.dumps(config, indent=2) + "\n", durable=True)
    write_tensors(folder / WEIGHTS_FILE, state_dict, metadata)


def _halved(name: str, tensor: Tensor) -> Tensor:
    if tensor.dtype != torch.float32:
        return tensor
    half = tensor.half()
    if not torch.equal(half.isfinite(), tensor.isfinite()):
        raise ValueError(f"'{name}' holds values beyond float16's range (largest {tensor.abs().max():.3g})")
    return half


def load_weights(folder: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a weight folder written by `save_weights`.

    Returns:
        The tensors (float32 again if they were stored in half precision) and the configuration.

    Raises:
        UserError: A file is missing or damaged.
    """
    folder = Path(folder)
    if path_kind(folder) != "folder":
        raise UserError(f"no weights at {shown(folder)}: give a folder that holds {WEIGHTS_FILE} and {CONFIG_FILE}")
    config = read_json(folder / CONFIG_FILE, "a weight folder needs it; get a fresh copy", _LARGEST_CONFIG)
    if not isinstance(config, dict):
        raise UserError(f"{folder / CONFIG_FILE}: must hold a JSON object; get a fresh copy")
    tensors = read_tensors(folder / WEIGHTS_FILE)
    if read_metadata(folder / WEIGHTS_FILE).get(_STORAGE) == "float16":
        # Some shipped tensors were stored in 8 bits by hand.
        small = (torch.float16, torch.float8_e4m3fn)
        tensors = {name: t.float() if t.dtype in small else t for name, t in tensors.items()}
    return tensors, config


def load_state_strict(
    module: nn.Module, tensors: Mapping[str, Tensor], where: str | Path, assign: bool = False
) -> None:
    """Load `tensors` into `module`, or with `assign` make them its own; keys and shapes must agree exactly.

    Raises:
        UserError: They do not; names the first few keys of each kind. Or a parameter holds NaN or infinity. The module
            is then unchanged.
    """
    _check_state(module, tensors, where)
    broken = [name for name, _ in module.named_parameters() if name in tensors and not tensors[name].isfinite().all()]
    if broken:
        raise UserError(f"the weights of {shown(where)} hold NaN or infinity in {_listed(broken)}; use other weights")
    module.load_state_dict(dict(tensors), strict=True, assign=assign)


def _check_state(module: nn.Module, tensors: Mapping[str, Tensor], where: str | Path) -> None:
    own = module.state_dict()
    shared = [name for name in own if name in tensors]
    misfits = [name for name in shared if tensors[name].shape != own[name].shape]
    shapes = [f"{name} {list(tensors[name].shape)} for {list(own[name].shape)}" for name in misfits]
    kinds = {
        "missing": [name for name in own if name not in tensors],
        "unexpected": [name for name in tensors if name not in own],
        "of another shape": shapes,
    }
    found = "; ".join(f"{len(names)} {kind}: {_listed(names)}" for kind, names in kinds.items() if names)
    if found:
        raise UserError(
            f"the weights of {shown(where)} do not fit this {type(module).__name__}: {found}; "
            "use the config that was saved with them, or other weights"
        )


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _KEYS_SHOWN} more" if len(names) > _KEYS_SHOWN else ""
    return f"{', '.join(map(shown, names[:_KEYS_SHOWN]))}{more}"
