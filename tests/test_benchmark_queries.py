"""Whether instance queries read the photos: hand cases of the swap test, and the shipped weights."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from queries import MODES, Room, measure_room, read_rooms, segment, summary

from tokengroups.systems import load_model
from tokengroups.systems.segvggt.queries import Reading
from tokengroups.systems.segvggt.system import SegVGGT


@pytest.fixture(scope="module")
def system() -> SegVGGT:
    model = load_model("segvggt_tiny")
    assert isinstance(model, SegVGGT)
    return model


@pytest.fixture(scope="module")
def rooms(system: SegVGGT) -> list[Room]:
    return list(read_rooms(system, 205, 3, 4, "centre"))


def test_shipped_queries_read_the_photos(system: SegVGGT, rooms: list[Room]) -> None:
    """With queries of another room most of the AP is gone, and attention is where the instances are."""
    measured = [measure_room(system, room, other) for room, other in zip(rooms, [*rooms[1:], rooms[0]], strict=True)]
    found = summary(measured)
    assert found["ap"] > 0.25 and found["ap_swapped"] < found["ap"] / 2
    assert found["patch_share"] > 3 * found["patch_share_uniform"]
    assert found["frame_share"] > found["frame_share_uniform"]


def test_a_room_swapped_with_itself_keeps_its_masks(system: SegVGGT, rooms: list[Room]) -> None:
    found = summary([measure_room(system, rooms[0], rooms[0])])
    assert found["ap_swapped"] == found["ap"] and found["ap_swapped_objects"] == found["ap_objects"]
    blind = replace(rooms[0], found=replace(rooms[0].found, queries=torch.zeros_like(rooms[0].found.queries)))
    assert summary([measure_room(system, rooms[0], blind)])["ap_swapped"] < 0.1  # all masks are the whole photos
    assert set(MODES) <= found.keys()


def test_uniform_attention_is_the_share_of_the_tokens(rooms: list[Room]) -> None:
    """Where no mask limits it, attention that is forced to be uniform has the mass of the number of tokens."""
    free = load_model("segvggt_tiny")
    assert isinstance(free, SegVGGT)
    free.joint.branch.aggregator.mask_attention = "none"
    images = rooms[0].images
    tokens = (images.shape[-1] // free.encoder.patch_size) ** 2 + free.joint.branch.aggregator.num_special
    regions = torch.zeros(1, 4, tokens, 1)
    regions[0, 1, :7] = 1
    found = segment(free, images, Reading(regions=regions, uniform=True))
    assert found.region_attention is not None
    expected = torch.full_like(found.region_attention, 7 / (4 * tokens))
    torch.testing.assert_close(found.region_attention, expected)
