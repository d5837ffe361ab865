"""Chained poses: an encoder that knows pairs and loses far photos, by construction."""

from __future__ import annotations

import math

import pytest
import torch

from tokengroups.data.procedural import generate_room
from tokengroups.data.sampling import to_views
from tokengroups.geometry import invert_rigid, relative_cameras, rigid, rotation_from_vector
from tokengroups.models import load_model
from tokengroups.nn.pose_encoding import encode_pose
from tokengroups.types import EncoderOutput
from tokengroups.vggt import VGGT, VGGTConfig, chained_poses, encoder_cameras

TINY = VGGTConfig(
    patch_size=8, image_size=16, embed_dim=24, num_heads=2, dino_depth=1, depth=4, camera_depth=1, camera_heads=2,
    dpt_layers=(0, 1, 2, 3), dpt_channels=(8, 8, 8, 8), dpt_features=8, dpt_hidden=8, enable_point=False,
)  # fmt: skip
DEGREES = [0.0, 15.0, 40.0, 70.0, 100.0, 20.0]  # of the photos, to the right
UNIT = 2.5  # the pairs' unit of length in that of all photos


def true_poses() -> torch.Tensor:
    """Cameras that turn and walk."""
    turns = torch.tensor([[0.0, math.radians(angle), 0.0] for angle in DEGREES])
    steps = torch.tensor([[0.1 * i, 0.02 * i, -0.05 * i] for i in range(len(DEGREES))])
    return rigid(rotation_from_vector(turns), steps)


class PairEncoder(VGGT):
    """Knows the motion of every pair; a photo's number is its grey value."""

    def __init__(self) -> None:
        super().__init__(TINY)
        self.pairs: list[list[int]] = []

    def forward(self, images: torch.Tensor) -> EncoderOutput:
        """The truth, in another unit of length and a world of its own."""
        assert images.shape[1] == 2
        numbers = (images[:, :, 0, 0, 0] * 10).round().long()
        self.pairs += numbers.tolist()
        poses = relative_cameras(
            true_poses()[numbers], true_poses()[numbers[:, 0]], torch.full((len(numbers),), 1 / UNIT)
        )
        world = rigid(rotation_from_vector(torch.tensor([0.1, -0.2, 0.05])), torch.tensor([0.3, 0.1, -0.2]))
        intrinsics = torch.tensor([[16.0, 0, 8], [0, 16.0, 8], [0, 0, 1]]).expand(*numbers.shape, 3, 3)
        encoding = encode_pose(poses @ world, intrinsics, (16, 16))
        depth = torch.full((*numbers.shape, 16, 16), 2.0 / UNIT)
        return EncoderOutput((), (encoding,), depth, depth)


def photos(num_scenes: int = 1) -> torch.Tensor:
    grey = torch.arange(len(DEGREES)) / 10
    return grey[None, :, None, None, None].expand(num_scenes, -1, 3, 16, 16).clone()


def lost() -> torch.Tensor:
    """What all photos together were said to be: far ones wrong, but said to be far."""
    poses = true_poses()
    wrong = rigid(rotation_from_vector(torch.tensor([0.0, 0.3, 0.2])), torch.tensor([0.5, 0.0, 0.0]))
    far = torch.tensor(DEGREES) > 30
    poses[far] = wrong @ poses[far]
    return poses[None]


def test_far_photos_get_the_motion_of_their_pair_and_the_others_stay():
    encoder, depth = PairEncoder(), torch.full((1, len(DEGREES), 16, 16), 2.0)
    assert (lost() - true_poses()).abs().max() > 0.2
    chained = chained_poses(encoder, photos(), lost(), depth)
    torch.testing.assert_close(chained[0], true_poses(), rtol=0, atol=1e-4)
    assert encoder.pairs == [[1, 2], [2, 3], [3, 4]]  # each overlaps, and no near photo is asked for


def test_scenes_of_a_batch_do_not_mix():
    poses = torch.cat([lost(), torch.eye(4).expand(1, len(DEGREES), 4, 4)])
    depth = torch.full((2, len(DEGREES), 16, 16), 2.0)
    chained = chained_poses(PairEncoder(), photos(2), poses, depth)
    torch.testing.assert_close(chained[0], true_poses(), rtol=0, atol=1e-4)
    assert torch.equal(chained[1], poses[1])


@pytest.mark.parametrize("views", [[0, 1, 5], [0, 3]], ids=["near", "a pair"])
def test_near_photos_and_pairs_ask_for_nothing(views):
    encoder = PairEncoder()
    poses = lost()[:, views]
    assert chained_poses(encoder, photos()[:, views], poses, torch.ones(1, len(views), 16, 16)) is poses
    assert encoder.pairs == []


def test_shipped_encoder_finds_lost_photos_of_a_room():
    """A held-out room whose path turns by 83 degrees: poses before any refinement."""
    views = to_views(generate_room(9002, 1, "test", num_views=17, size=128), list(range(1, 17, 2)))
    encoder = load_model("token_groups_tiny").encoder
    with torch.no_grad():
        output = encoder(views.images[None])
    assert output.depth is not None
    poses = encoder_cameras(output, (128, 128)).cam_from_world
    poses = relative_cameras(poses, poses[:, 0], torch.ones(1))
    chained = chained_poses(encoder, views.images[None], poses, output.depth)[0]
    true = views.cameras.cam_from_world
    true = true @ invert_rigid(true[0])

    def off(found: torch.Tensor) -> torch.Tensor:
        turn = found[:, :3, :3] @ true[:, :3, :3].mT
        return torch.rad2deg(((turn.diagonal(dim1=1, dim2=2).sum(dim=1) - 1) / 2).clamp(-1, 1).acos())

    assert off(poses[0]).max() > 30 and off(chained).max() < 12
