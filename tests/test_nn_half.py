"""Weights held in half precision: the numbers of widened ones, and the names and classes of plain layers."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from tokengroups.checkpoint import adopt_state
from tokengroups.nn.half import halved_weights, widen
from tokengroups.nn.limits import unfilled


def network() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(256, 512, 2, stride=2, padding=1), nn.ConvTranspose2d(512, 256, 2, stride=2, bias=False),
        nn.Flatten(2), nn.Linear(36, 16_384), nn.LayerNorm(16_384), nn.Linear(16_384, 32), nn.BatchNorm1d(256),
    ).eval()  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_numbers_are_those_of_widened_weights(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    plain, images = network(), torch.rand(2, 256, 4, 4)
    state = {name: t.to(dtype) if t.is_floating_point() else t for name, t in plain.state_dict().items()}
    plain.load_state_dict(state)
    with unfilled():
        loaded = network()
    adopt_state(loaded, state, "a")
    kept = {name for name, tensor in loaded.state_dict().items() if tensor.dtype == dtype}
    assert kept == halved_weights(network()) == {"0.weight", "1.weight", "3.weight", "5.weight"}
    assert loaded[0].weight.data_ptr() == state["0.weight"].data_ptr()
    for model in (loaded, copy.deepcopy(loaded)):
        assert isinstance(model[3], nn.Linear) and model.state_dict().keys() == state.keys()
        assert torch.equal(model(images), plain(images))
    widen(loaded)
    assert torch.equal(loaded(images), plain(images)) and loaded[3].weight.dtype == torch.float32


def test_autocast_chooses_its_own_precision() -> None:
    state = {name: tensor.bfloat16() for name, tensor in nn.Linear(1024, 1024).state_dict().items()}
    with unfilled():
        layer = nn.Linear(1024, 1024)
    adopt_state(layer, state, "a")
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        assert layer(torch.rand(3, 1024)).dtype == torch.bfloat16
