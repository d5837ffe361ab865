"""Limits on the sizes of modules, which configurations in files decide."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from tokengroups.errors import UserError
from tokengroups.reading import shown

_SPARE_PARAMETERS = 10**7


@contextlib.contextmanager
def parameter_limit(most: int, message: str) -> Iterator[None]:
    """Context in which all modules that are built together may have so many parameters, checked before they are filled.

    Raises:
        UserError: They have more, or no memory is left; its line is the message.
    """
    count = 0

    def add(_module: nn.Module, _name: str, parameter: nn.Parameter | None) -> None:
        nonlocal count
        count += 0 if parameter is None else parameter.numel()
        if count > most:
            raise UserError(message)

    hook = register_module_parameter_registration_hook(add)
    try:
        yield
    except RuntimeError as error:  # so does torch call it
        if "allocate" not in str(error):
            raise
        raise UserError(message) from error
    finally:
        hook.remove()


@contextlib.contextmanager
def unfilled() -> Iterator[None]:
    """Context in which modules are built without memory for their parameters, for weights that take their places.

    Unlike on torch's device "meta", buffers are real: some are constants that no file holds.
    """

    def empty(_module: nn.Module, _name: str, parameter: nn.Parameter | None) -> nn.Parameter | None:
        return None if parameter is None else nn.Parameter(parameter.to("meta"), parameter.requires_grad)

    hook = register_module_parameter_registration_hook(empty)  # pyright: ignore[reportArgumentType] # torch takes more
    try:
        yield
    finally:
        hook.remove()


def weights_limit(tensors: Mapping[str, Tensor], where: str | Path) -> contextlib.AbstractContextManager[None]:
    """`parameter_limit` of a module for these weights; generous, because parts may be built and replaced."""
    most = 4 * sum(tensor.numel() for tensor in tensors.values()) + _SPARE_PARAMETERS
    message = f"{shown(where)}: describes a far larger model than its weights; use the config that was saved with them"
    return parameter_limit(most, message)
