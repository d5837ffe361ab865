"""C++ backend for tensors on the CPU, with gradients through one autograd function."""

from __future__ import annotations

import ctypes
import os
import threading
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from tokengroups.render import library
from tokengroups.render.inputs import RasterImages, RasterInputs

_INPUT_NAMES = (
    "means", "quats", "scales", "opacities", "colors", "cam_from_world", "intrinsics", "colors", "anchor_features",
)  # fmt: skip
_REGISTER_CHANNELS = 3  # further colours are wide channels

# A forked child uses one thread: OpenMP's threads do not exist there, and waiting for them hangs.
_FORKED = threading.Event()
os.register_at_fork(after_in_child=_FORKED.set)


@dataclass(frozen=True)
class _Call:
    """Inputs of forward and backward besides the differentiable tensors."""

    size_hw: tuple[int, int]
    intrinsics: Tensor
    anchor_ids: Tensor | None
    harmonics: bool  # the colours are coefficients
    argmax: bool  # the last image is that of `RasterImages.argmax`
    variant: int


class _State:
    """Owner of the C++ context of one forward call."""

    def __init__(self, variant: int) -> None:
        self.variant = variant
        self.pointer = ctypes.c_void_p()

    def __del__(self) -> None:
        if self.pointer:
            library.load_library().tg_release(self.variant, self.pointer)


def _scene(call: _Call, tensors: tuple[Tensor, ...]) -> library.Scene:
    means, quats, scales, opacities, colors, more, features, cam_from_world = tensors
    rows = None if call.anchor_ids is None else call.anchor_ids.data_ptr()
    wide = (
        library.Wide(None, more.data_ptr(), *more.shape[-2:], more.ndim == 4),
        library.Wide(rows, features.data_ptr(), *features.shape[-2:], False),
    )
    threads = 1 if _FORKED.is_set() else torch.get_num_threads()
    harmonics = colors.shape[2] if call.harmonics else 0
    return library.Scene(
        means.shape[0], cam_from_world.shape[1], means.shape[1], *call.size_hw, colors.shape[-1],
        means.data_ptr(), quats.data_ptr(), scales.data_ptr(), opacities.data_ptr(), colors.data_ptr(),
        colors.ndim == 4 and not harmonics, harmonics,
        cam_from_world.data_ptr(), call.intrinsics.data_ptr(), (library.Wide * 2)(*wide), threads,
    )  # fmt: skip


def _images(tensors: tuple[Tensor, ...]) -> library.Images:
    colors, alphas, depths, more, last = (tensor.data_ptr() for tensor in tensors)
    features, argmax = (None, last) if tensors[-1].dtype == torch.int64 else (last, None)
    return library.Images(colors, alphas, depths, (ctypes.c_void_p * 2)(more, features), argmax)


def _check(call: _Call, status: int, culprit: int = -1) -> None:
    if status == library.NOT_FINITE:
        name = "sh" if call.harmonics and culprit == _INPUT_NAMES.index("colors") else _INPUT_NAMES[culprit]
        raise ValueError(f"render: {name} contain NaN or infinite values")
    if status == library.NO_MEMORY:
        raise MemoryError("render: out of memory in the C++ rasteriser")
    assert status == 0, f"C++ rasteriser returned {status}"


class _Rasterize(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, call: _Call, *tensors: Tensor) -> tuple[Tensor, ...]:
        means, colors, cam_from_world = tensors[0], tensors[4], tensors[7]
        shape = (means.shape[0], cam_from_world.shape[1], *call.size_hw)
        dims = (colors.shape[-1:], (), (), tensors[5].shape[-1:], tensors[6].shape[-1:])
        images = tuple(means.new_empty((*shape, *dim)) for dim in dims[: 4 if call.argmax else 5])
        if call.argmax:
            images = (*images, means.new_empty(shape, dtype=torch.int64))
        needs_state = any(ctx.needs_input_grad)
        state, culprit = _State(call.variant), ctypes.c_int64(-1)
        status = library.load_library().tg_forward(
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
        packed = library.Gradients(
            *pointers[:5], (ctypes.c_void_p * 2)(*pointers[5:7]), pointers[7] if with_cameras else None
        )
        status = library.load_library().tg_backward(
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
    call = _Call(
        inputs.size_hw, ready(inputs.intrinsics.detach()), anchor_ids, harmonics, inputs.argmax,
        library.chosen_variant(),
    )  # fmt: skip
    tensors = (
        inputs.means, inputs.quats, inputs.scales, inputs.opacities, colors, none if harmonics else more,
        none if features is None else features, inputs.cam_from_world,
    )  # fmt: skip
    first, alphas, depths, rest, last = _Rasterize.apply(call, *(ready(tensor) for tensor in tensors))
    colors = torch.cat([first, rest], dim=-1) if rest.shape[-1] else first
    if inputs.argmax:
        return RasterImages(colors, alphas, depths, None, last)
    return RasterImages(colors, alphas, depths, last if inputs.anchor_features is not None else None)
