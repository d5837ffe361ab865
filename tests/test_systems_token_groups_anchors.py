"""Anchors: sampled candidates with the context token, colour and pixel size of their place."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from toy_systems import GROUPS, random_input

from tokengroups.farthest_points import farthest_point_sampling
from tokengroups.systems.surface_points import surface_points
from tokengroups.systems.token_groups.anchors import candidate_stride, sample_anchors, take_anchors
from tokengroups.systems.token_groups.config import TokenGroupsConfig


def test_candidates_take_the_cell_centres_and_name_their_context_token():
    images, geometry = random_input()
    candidates = surface_points(images, geometry, stride=4)
    assert len(candidates.pixels) == 2 * 8 * 8
    every = torch.arange(len(candidates.pixels)).expand(2, -1)
    anchors = take_anchors(candidates, every, (32, 32), context_patch=8)
    for scene in range(2):
        for (view, row, column), token in zip(
            anchors.pixels[scene].tolist(), anchors.context_index[scene].tolist(), strict=True
        ):
            assert row % 4 == 2 and column % 4 == 2
            assert token == view * 16 + (row // 8) * 4 + column // 8


def test_anchors_are_the_farthest_points_among_the_candidates():
    images, geometry = random_input()
    anchors, candidates = sample_anchors(images, geometry, GROUPS), surface_points(images, geometry, 4)
    chosen = farthest_point_sampling(candidates.points, GROUPS.num_anchors)
    assert torch.equal(anchors.candidate_index, chosen) and anchors.stride == 4
    for scene in range(2):
        assert torch.equal(anchors.points[scene], candidates.points[scene, chosen[scene]])
        assert torch.equal(anchors.pixels[scene], candidates.pixels[chosen[scene]])
        assert torch.equal(anchors.pixel_sizes[scene], candidates.pixel_sizes[scene, chosen[scene]])
        torch.testing.assert_close(anchors.colors[scene], candidates.colors[scene, chosen[scene]])


def test_the_start_of_the_sampling_is_the_first_anchor_and_wraps_around():
    images, geometry = random_input()
    candidates = surface_points(images, geometry, 4)
    for start in (5, 5 + 2 * len(candidates.pixels)):
        anchors = sample_anchors(images, geometry, GROUPS, fps_start=start)
        assert torch.equal(anchors.points[:, 0], candidates.points[:, 5])


@pytest.mark.parametrize(
    ("views", "anchors", "stride"), [(2, 64, 16), (2, 129, 8), (2, 513, 4), (1, 1024, 4), (8, 1024, 8)]
)
def test_the_candidate_grid_is_refined_only_as_far_as_needed(views, anchors, stride):
    assert candidate_stride(views, (128, 128), 16, anchors) == stride


def test_more_anchors_than_pixels_is_refused():
    with pytest.raises(ValueError, match="fewer pixels"):
        candidate_stride(1, (4, 4), 4, 17)


def test_a_stride_that_does_not_divide_the_patch_is_refused():
    with pytest.raises(ValueError, match="anchor_stride must divide context_patch, got 3 and 8"):
        dataclasses.replace(GROUPS, anchor_stride=3)
    assert TokenGroupsConfig().anchors_for(8) == 1024  # the paper's number, however many photos
