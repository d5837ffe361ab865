"""The whole model: a frozen VGGT and the token-group decoders on top; photos in, a `TokenScene` out."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float, Int64
from torch import Tensor, nn

from tokengroups.encoders.vggt import (
    VGGT,
    RefinementSettings,
    VGGTConfig,
    encoder_cameras,
    encoder_depth,
    refine_geometry,
)
from tokengroups.geometry import relative_cameras, world_points
from tokengroups.postprocess.boundary_crf import follow_borders
from tokengroups.postprocess.flip_ensemble import average_mirrored, mirror_geometry
from tokengroups.postprocess.photometric import sharpen, steps_for
from tokengroups.systems.token_groups.context import FrozenGeometry
from tokengroups.systems.token_groups.decoder import TokenGroupDecoder, TokenGroupsConfig, TokenGroupsOutput
from tokengroups.systems.token_groups_tiny.single_view_features import photo_feature_dims
from tokengroups.types import Cameras, EncoderOutput, Semantics, TensorFields, TokenScene

KNOWN_FOCAL = 1e-4  # standard deviation of the logarithm of a focal length that was given


@dataclass(frozen=True)
class Reconstruction(TensorFields):
    """A reconstructed scene with what it was made from, for evaluation."""

    scene: TokenScene
    depth: Float[Tensor, "V H W"]  # predicted for the photos, in the scene's unit
    anchor_pixels: Int64[Tensor, "K 3"]  # view, row, column of the photo pixel behind every anchor


class TokenGroups(nn.Module):
    """Composes encoder and decoder; only the decoder is trained.

    Args:
        encoder: A VGGT with a depth head; frozen here.
        config: Shape of the decoders.
    """

    def __init__(self, encoder: VGGT, config: TokenGroupsConfig) -> None:
        super().__init__()
        self.encoder = encoder.freeze()
        self.decoder = build_decoder(config, encoder.config)

    @property
    def image_size(self) -> int:
        """Side in pixels of the square photos the model was trained on."""
        return self.encoder.config.image_size

    @property
    def size_multiple(self) -> int:
        """Photo sides must be multiples of this."""
        return math.lcm(self.encoder.config.patch_size, self.decoder.config.context_patch)

    def encode(
        self, images: Float[Tensor, "B V 3 H W"], intrinsics: Float[Tensor, "B V 3 3"] | None = None
    ) -> FrozenGeometry:
        """Run the frozen encoder; no gradients. Autocast reaches the network, never the points and poses."""
        with torch.no_grad():
            output = self.encoder(images)
            with torch.autocast(images.device.type, enabled=False):
                return frozen_geometry(images, output, self.encoder.config, intrinsics)

    def forward(
        self,
        images: Float[Tensor, "B V 3 H W"],
        first_anchor: int | None = None,
        intrinsics: Float[Tensor, "B V 3 3"] | None = None,
    ) -> tuple[TokenGroupsOutput, FrozenGeometry]:
        """Decode token groups for a batch of photo sets in [0, 1]; both results in float32."""
        geometry = self.encode(images, intrinsics)
        return self.decoder(images, geometry, first_anchor), geometry

    @torch.no_grad()
    def predict(
        self,
        images: Float[Tensor, "V 3 H W"],
        seed: int | None = None,
        sharpening_steps: int | None = None,
        intrinsics: Float[Tensor, "V 3 3"] | None = None,
    ) -> Reconstruction:
        """Reconstruct one scene and keep its intermediate results.

        Args:
            images: Photos in [0, 1]; the first one defines the world; sides are multiples of `size_multiple`.
            seed: Candidate that the anchor sampling starts from; None starts at the centre of the point cloud.
            sharpening_steps: Gradient steps that fit the Gaussians to the photos; None: `steps_for` as many as the
                configuration says; 0: none.
            intrinsics: Of the photos, in their pixels, where they are known; None: they are predicted.

        Raises:
            ValueError: If there is no photo, its size does not fit, or the number of steps is negative.
        """
        if len(images) == 0:
            raise ValueError("predict needs at least one photo")
        if any(side % self.size_multiple for side in images.shape[-2:]):
            raise ValueError(
                f"photo sides must be multiples of {self.size_multiple}, got {tuple(images.shape[-2:])}"
            )
        self.eval()
        config = self.decoder.config
        output, geometry = self(images[None], seed, None if intrinsics is None else intrinsics[None])
        first = output.map(lambda tensor: tensor[0] if tensor.ndim > 1 else tensor)
        if config.mirrored_grouping:
            average = self._average_with_mirrored(images, output, geometry, seed)
            first = replace(first, assignment=average)
        cameras = geometry.cameras.map(lambda tensor: tensor[0])
        steps = sharpening_steps
        if steps is None:
            steps = steps_for(config.sharpening_steps, len(images))
        first = replace(
            first,
            gaussians=sharpen(first.gaussians, images, cameras, steps),
            assignment=follow_borders(first.assignment, first.anchor_pixels, geometry, config.border_rounds),
        )
        provenance: dict[str, Any] = {
            "num_photos": len(images), "seed": seed, "sharpening_steps": steps,
            "intrinsics": "predicted" if intrinsics is None else "given",
        }  # fmt: skip
        scene = token_scene(first, cameras, provenance, config.text_encoder)
        return Reconstruction(scene, geometry.depth[0], first.anchor_pixels)

    def _average_with_mirrored(
        self,
        images: Float[Tensor, "V 3 H W"],
        output: TokenGroupsOutput,
        geometry: FrozenGeometry,
        seed: int | None,
    ) -> Float[Tensor, "K L"]:
        """Assignment averaged with that for the mirrored photos: their own features, the mirrored geometry."""
        mirrored = images.flip(-1)[None]
        tokens = self.encoder.kept_tokens(mirrored)
        features = patch_features(tokens, self.encoder.config, geometry.features.shape[-2])
        cues = self.encoder.look_at_perspective(mirrored) if self.decoder.config.photo_features else None
        photo_features = cues.features if cues is not None else ()
        opinion = self.decoder(mirrored, mirror_geometry(geometry, features, photo_features), seed)
        return average_mirrored(
            torch.cat([output.assignment, opinion.assignment]),
            torch.cat([output.anchor_pixels, opinion.anchor_pixels]),
            geometry.depth[0],
            self.decoder.config.anchor_stride,
        )

    def reconstruct(
        self,
        images: Float[Tensor, "V 3 H W"],
        seed: int | None = None,
        sharpening_steps: int | None = None,
        intrinsics: Float[Tensor, "V 3 3"] | None = None,
    ) -> TokenScene:
        """Photos of a room to a scene of token groups; arguments and errors as in `predict`."""
        return self.predict(images, seed, sharpening_steps, intrinsics).scene


def build_decoder(config: TokenGroupsConfig, encoder: VGGTConfig) -> TokenGroupDecoder:
    """Untrained decoders that fit an encoder.

    Raises:
        ValueError: If they are to read of photos, or to follow borders in them, and the encoder tells neither.
    """
    if config.border_rounds and not encoder.perspective_details:
        raise ValueError("border_rounds needs an encoder whose perspective network has details")
    return TokenGroupDecoder(config, encoder_feature_dim(encoder), photo_feature_dims(encoder))


def encoder_feature_dim(config: VGGTConfig) -> int:
    """Channels of `frozen_geometry`'s features: frame and global halves of every kept layer."""
    return 2 * config.embed_dim * len(config.dpt_layers)


def frozen_geometry(
    images: Float[Tensor, "B V 3 H W"],
    output: EncoderOutput,
    config: VGGTConfig,
    intrinsics: Float[Tensor, "B V 3 3"] | None = None,
) -> FrozenGeometry:
    """Patch features of all kept layers, and points from depth and camera, which beat the point head's.

    The encoder's own pose of the first photo is close to the identity but not equal to it: the world is moved there.
    Encoders that match cells get their cameras and depth refined by matched pixels. Known `intrinsics` take the place
    of the predicted ones, and are kept.
    """
    assert output.depth_confidence is not None
    depth = encoder_depth(output)
    size_hw = (depth.shape[-2], depth.shape[-1])
    predicted = encoder_cameras(output, size_hw)
    first = predicted.cam_from_world[:, 0]
    cam_from_first = relative_cameras(predicted.cam_from_world, first, torch.ones_like(first[:, 0, 0]))
    cameras = Cameras(cam_from_first, predicted.intrinsics if intrinsics is None else intrinsics, size_hw)
    if output.cell_descriptors is not None:
        settings = RefinementSettings() if intrinsics is None else RefinementSettings(prior_focal=KNOWN_FOCAL)
        cameras, depth = refine_geometry(images, cameras, depth, output.cell_descriptors.float(), settings)
    return FrozenGeometry(
        features=patch_features(output.tokens, config, size_hw[0] // config.patch_size),
        points=world_points(depth, cameras.cam_from_world, cameras.intrinsics),
        depth=depth,
        confidence=output.depth_confidence.float(),
        cameras=cameras,
        photo_features=output.perspective.features if output.perspective is not None else (),
        same_object=output.perspective.same_object if output.perspective is not None else None,
    )


def patch_features(
    tokens: tuple[Float[Tensor, "B V P C2"], ...], config: VGGTConfig, rows: int
) -> Float[Tensor, "B V C h w"]:
    """Frame and global halves of every kept layer, per patch; `rows` = h."""
    patches = torch.cat([layer[:, :, config.num_special :] for layer in tokens], dim=-1).float()
    return rearrange(patches, "b v (h w) c -> b v c h w", h=rows)


def token_scene(
    output: TokenGroupsOutput, cameras: Cameras, provenance: dict[str, Any], text_encoder: str = ""
) -> TokenScene:
    """An unbatched output as a scene: groups that own no anchor are dropped, the others keep their token's index.

    `text_encoder` names the space of the output's semantics, if it has any.
    """
    used = output.assignment.argmax(dim=-1).unique()
    assignment = output.assignment[:, used]
    semantics, decoded = None, output.semantics
    if decoded is not None:
        semantics = Semantics(
            decoded.embeddings[used], decoded.residuals, decoded.projection, decoded.calibration, text_encoder
        )
    return TokenScene(
        gaussians=output.gaussians,
        anchor_ids=output.anchor_ids,
        anchors=output.anchors,
        assignment=assignment / assignment.sum(dim=-1, keepdim=True),
        group_ids=used,
        group_tokens=output.group_tokens[used],
        cameras=cameras,
        provenance=provenance,
        semantics=semantics,
    )
