"""Strict loading of tensors into modules."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from tokengroups.errors import UserError
from tokengroups.nn.half import halved_weights, hold_half
from tokengroups.reading import shown

_KEYS_SHOWN = 3


def load_state_strict(module: nn.Module, tensors: Mapping[str, Tensor], where: str | Path) -> None:
    """Copy `tensors` into `module`; keys and shapes must agree exactly.

    Raises:
        UserError: They do not; names the first few keys of each kind. Or a parameter holds NaN or infinity. The module
            is then unchanged.
    """
    _check_state(module, tensors, where)
    module.load_state_dict(dict(tensors), strict=True)


def adopt_state(module: nn.Module, tensors: Mapping[str, Tensor], where: str | Path) -> None:
    """Make `tensors` the parameters and buffers of `module`, without a copy; errors as in `load_state_strict`.

    Large weights in half precision stay so (see `tokengroups.nn.half`), all other numbers become the module's type.
    """
    _check_state(module, tensors, where)
    kept, own = halved_weights(module), module.state_dict()

    def fitting(name: str, tensor: Tensor) -> Tensor:
        half = tensor.dtype in (torch.float16, torch.bfloat16) and name in kept
        return tensor if half else tensor.to(own[name].dtype)

    fitted = {name: fitting(name, tensor) for name, tensor in tensors.items()}
    module.load_state_dict(fitted, strict=True, assign=True)
    hold_half(module)


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
    broken = [name for name, _ in module.named_parameters() if name in tensors and not _is_finite(tensors[name])]
    if broken:
        raise UserError(f"the weights of {shown(where)} hold NaN or infinity in {_listed(broken)}; use other weights")


def _is_finite(tensor: Tensor) -> bool:
    """Whether all numbers are finite; a sum, which is quick, leaves the rare doubtful cases to `isfinite`."""
    if not tensor.is_floating_point() or tensor.dtype.itemsize == 1:
        return bool(tensor.float().isfinite().all())
    return bool(tensor.sum(dtype=torch.float32).isfinite()) or bool(tensor.isfinite().all())


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _KEYS_SHOWN} more" if len(names) > _KEYS_SHOWN else ""
    return f"{', '.join(map(shown, names[:_KEYS_SHOWN]))}{more}"
