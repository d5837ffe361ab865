"""Safetensors files, weight folders, and strict loading into modules."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from tokengroups.errors import UserError
from tokengroups.io.files import atomic_path, make_folder, write_text
from tokengroups.reading import read_json

WEIGHTS_FILE, CONFIG_FILE = "model.safetensors", "config.json"
SHIPPED = Path(__file__).parent / "weights"
_STORAGE = "storage"  # metadata key of weight files; "float16": stored in half precision, used in float32
_KEYS_SHOWN = 3


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """Read all tensors of a safetensors file into memory.

    Raises:
        UserError: The file is missing, unreadable, truncated, damaged or not safetensors at all.
    """
    with _reading(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping


def read_metadata(path: str | Path) -> dict[str, str]:
    """Read the text metadata of a safetensors file without its tensors; errors as in `read_tensors`."""
    with _reading(path) as file:
        return dict(file.metadata() or {})


@contextlib.contextmanager
def _reading(path: str | Path) -> Iterator[Any]:
    """Open with `safe_open`; its failures, on opening and later, become a `UserError`."""
    path = Path(path)
    if not path.is_file():
        what = "it is a folder; give a file" if path.is_dir() else "there is no such file"
        raise UserError(f"cannot read {path}: {what}")
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"cannot read {path}: not a safetensors file, or a truncated or damaged one ({reason}); get a fresh copy"
        ) from None


def write_tensors(path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file atomically: on any failure an existing file stays as it was.

    The folder must exist. Tensors are stored contiguous, with their dtype.

    Raises:
        UserError: The operating system refused to write.
    """
    stored: dict[str, Tensor] = {}
    storages = set()  # safetensors refuses tensors that share memory
    for name, tensor in tensors.items():
        tensor = tensor.detach().contiguous()
        storage = (tensor.device, tensor.untyped_storage().data_ptr())
        stored[name] = tensor.clone() if storage in storages else tensor
        storages.add(storage)
    with atomic_path(path) as temporary:
        try:
            save_file(stored, temporary, dict(metadata or {}))
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
        if (folder / CONFIG_FILE).is_file():
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
    write_text(folder / CONFIG_FILE, json.dumps(config, indent=2) + "\n")
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
    if not folder.is_dir():
        raise UserError(f"no weights at {folder}: give a folder that holds {WEIGHTS_FILE} and {CONFIG_FILE}")
    config = read_json(folder / CONFIG_FILE, "a weight folder needs it; get a fresh copy")
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
        UserError: They do not; names the first few keys of each kind. The module is then unchanged.
    """
    own = module.state_dict()
    shared = [name for name in own if name in tensors]
    misfits = [name for name in shared if tensors[name].shape != own[name].shape]
    shapes = [f"{name} {list(tensors[name].shape)} for {list(own[name].shape)}" for name in misfits]
    problems = [
        _listed("missing", [name for name in own if name not in tensors]),
        _listed("unexpected", [name for name in tensors if name not in own]),
        _listed("of another shape", shapes),
    ]
    found = "; ".join(problem for problem in problems if problem)
    if found:
        raise UserError(
            f"the weights of {where} do not fit this {type(module).__name__}: {found}; "
            "use the config that was saved with them, or other weights"
        )
    module.load_state_dict(dict(tensors), strict=True, assign=assign)


def _listed(kind: str, names: list[str]) -> str:
    more = f" and {len(names) - _KEYS_SHOWN} more" if len(names) > _KEYS_SHOWN else ""
    return f"{len(names)} {kind}: {', '.join(names[:_KEYS_SHOWN])}{more}" if names else ""
