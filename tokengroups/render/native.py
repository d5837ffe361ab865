"""The C++ backend: tensors in, tensors out, gradients through one autograd function."""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from tokengroups.render.inputs import RasterImages, RasterInputs
from tokengroups.render.library import (
    NO_MEMORY,
    NOT_FINITE,
    Gradients,
    Images,
    Scene,
    Wide,
    chosen_variant,
    load_library,
)  # fmt: skip

_INPUT_NAMES = (
    "means", "quats", "scales", "opacities", "colors", "cam_from_world", "intrinsics", "colors", "anchor_features",
)  # fmt: skip
_REGISTER_CHANNELS = 3  # colours beyond these go the way of the wide channels


class _Process:
    forked = False


def _after_fork() -> None:
    _Process.forked = True


os.register_at_fork(after_in_child=_after_fork)


def _num_threads() -> int:
    """Torch's thread count; one in a forked child, where OpenMP's threads do not exist and waiting for them hangs."""
    return 1 if _Process.forked else torch.get_num_threads()


@dataclass(frozen=True)
class _Call:
    """What forward and backward need besides the differentiable tensors."""

    size_hw: tuple[int, int]
    intrinsics: Tensor
    anchor_ids: Tensor | None
    harmonics: bool  # the colours are coefficients
    variant: int


class _State:
    """Owns the C++ context of one forward call."""

    def __init__(self, variant: int) -> None:
        self.variant = variant
        self.pointer = ctypes.c_void_p()

    def __del__(self) -> None:
        if self.pointer:
            load_library().tg_release(self.variant, self.pointer)


def _wide(values: Tensor, rows: Tensor | None, per_camera: bool) -> Wide:
    pointer = None if rows is None else rows.data_ptr()
    return Wide(pointer, values.data_ptr(), values.shape[-2], values.shape[-1], per_camera)


def _scene(call: _Call, tensors: tuple[Tensor, ...]) -> Scene:
    means, quats, scales, opacities, colors, more, features, cam_from_world = tensors
    wide = (_wide(more, None, more.ndim == 4), _wide(features, call.anchor_ids, False))
    harmonics = colors.shape[2] if call.harmonics else 0
    return Scene(
        means.shape[0], cam_from_world.shape[1], means.shape[1], *call.size_hw, colors.shape[-1],
        means.data_ptr(), quats.data_ptr(), scales.data_ptr(), opacities.data_ptr(), colors.data_ptr(),
        colors.ndim == 4 and not harmonics, harmonics,
        cam_from_world.data_ptr(), call.intrinsics.data_ptr(), (Wide * 2)(*wide), _num_threads(),
    )  # fmt: skip


def _images(tensors: tuple[Tensor, ...]) -> Images:
    colors, alphas, depths, more, features = (tensor.data_ptr() for tensor in tensors)
    return Images(colors, alphas, depths, (ctypes.c_void_p * 2)(more, features))


def _check(call: _Call, status: int, culprit: int = -1) -> None:
    if status == NOT_FINITE:
        name = "sh" if call.harmonics and culprit == _INPUT_NAMES.index("colors") else _INPUT_NAMES[culprit]
        raise ValueError(f"render: {name} contain NaN or infinite values")
    if status == NO_MEMORY:
        raise MemoryError("render: out of memory in the C++ rasteriser")
    assert status == 0, f"C++ rasteriser returned {status}"


class _Rasterize(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, call: _Call, *tensors: Tensor) -> tuple[Tensor, ...]:
        means, colors, cam_from_world = tensors[0], tensors[4], tensors[7]
        shape = (means.shape[0], cam_from_world.shape[1], *call.size_hw)
        dims = (colors.shape[-1:], (), (), tensors[5].shape[-1:], tensors[6].shape[-1:])
        images = tuple(means.new_empty((*shape, *dim)) for dim in dims)
        needs_state = any(ctx.needs_input_grad)
        state, culprit = _State(call.variant), ctypes.c_int64(-1)
        status = load_library().tg_forward(
            call.variant, ctypes.byref(_scene(call, tensors)), ctypes.byref(_images(images)),
            ctypes.byref(state.pointer) if needs_state else None, ctypes.byref(culprit),
        )  # fmt: skip
        _check(call, status, culprit.value)
        if needs_state:
            ctx.call, ctx.state = call, state
            ctx.save_for_backward(*tensors, *images)
        return images

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        tensors, images = ctx.saved_tensors[:8], ctx.saved_tensors[8:]
        cotangents = tuple(c.contiguous() for c in cotangents)
        gradients = tuple(torch.empty_like(tensor) for tensor in tensors)
        pointers = [gradient.data_ptr() for gradient in gradients]
        with_cameras = ctx.needs_input_grad[8]
        packed = Gradients(*pointers[:5], (ctypes.c_void_p * 2)(*pointers[5:7]), pointers[7] if with_cameras else None)
        status = load_library().tg_backward(
            ctx.call.variant, ctypes.byref(_scene(ctx.call, tensors)), ctypes.byref(_images(images)),
            ctypes.byref(_images(cotangents)), ctx.state.pointer, ctypes.byref(packed),
        )  # fmt: skip
        _check(ctx.call, status)
        return None, *gradients[:7], gradients[7] if with_cameras else None


def rasterize_native(inputs: RasterInputs) -> RasterImages:
    """Render on the CPU with the C++ kernels, in float32."""

    def ready(tensor: Tensor) -> Tensor:
        return tensor.to(torch.float32).contiguous()

    given = inputs.sh if inputs.colors is None else inputs.colors
    assert given is not None
    colors, more = given[..., :_REGISTER_CHANNELS], given[..., _REGISTER_CHANNELS:]
    features, none = inputs.anchor_features, inputs.means.new_empty(inputs.means.shape[0], 0, 0)
    anchor_ids = None if inputs.anchor_ids is None else inputs.anchor_ids.contiguous()
    harmonics = inputs.colors is None
    call = _Call(inputs.size_hw, ready(inputs.intrinsics.detach()), anchor_ids, harmonics, chosen_variant())
    tensors = (
        inputs.means, inputs.quats, inputs.scales, inputs.opacities, colors, none if harmonics else more,
        none if features is None else features, inputs.cam_from_world,
    )  # fmt: skip
    first, alphas, depths, rest, features = _Rasterize.apply(call, *(ready(tensor) for tensor in tensors))
    colors = torch.cat([first, rest], dim=-1) if rest.shape[-1] else first
    return RasterImages(colors, alphas, depths, features if inputs.anchor_features is not None else None)
