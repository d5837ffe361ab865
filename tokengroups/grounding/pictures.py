"""Pictures of a scene's context views with one group marked, from photos or renderings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from tokengroups.errors import UserError
from tokengroups.io.scene_photos import ScenePhoto
from tokengroups.reading import shown
from tokengroups.scene.groups import column_of
from tokengroups.scene.views import render_views, resize_cameras, select_cameras
from tokengroups.ties import ascending
from tokengroups.types import Cameras, TokenScene

MAX_VIEWS = 3  # of one group
SIZE_PX = 512  # longer side of a picture
_RED, _YELLOW = (1.0, 0.0, 0.0), (1.0, 1.0, 0.0)
_RED_ALPHA = 0.5
_OUTLINE = 1 / 256  # of the longer side
_LEAST_SHARE = 2e-4  # of a picture's pixels: a group that covers less is not seen
_SAME_SHARE = 1e-3  # of a picture's pixels: views that differ by less show a group equally well
_CACHED = 32  # views, each with 7 bytes a pixel
_ALIKE = 0.25  # least correlation of the grey values of a photo and the rendering from its camera
_BLUR_PX = 16  # side of the pictures in which they are compared


class ScenePictures:
    """Pictures of a scene from its context cameras, drawn when they are needed.

    Args:
        scene: The scene.
        size: Longer side of the pictures in pixels.
        photos: The scene's photos, one for each camera (`tokengroups.io.scene_photos`); None = renderings.

    Attributes:
        notes: About photos that do not look like the scene.

    Raises:
        UserError: The scene has no group or no camera.
    """

    def __init__(self, scene: TokenScene, size: int = SIZE_PX, photos: Sequence[ScenePhoto] | None = None) -> None:
        if not len(scene.group_ids) or not len(scene.cameras.intrinsics):
            raise UserError("the scene has no groups, or no cameras to look at them; reconstruct it again")
        height, width = scene.cameras.size_hw
        self.scene, self.photos = scene, photos
        self.cameras: Cameras = resize_cameras(scene.cameras, max(round(size * height / max(height, width)), 1))
        self.notes: list[str] = []
        self._view = lru_cache(_CACHED)(self._draw)

    def __len__(self) -> int:
        return len(self.cameras.intrinsics)

    def best_views(self, most: int = MAX_VIEWS) -> dict[int, tuple[int, ...]]:
        """The views that show most of each group, by id, best first; none for groups that are hardly seen.

        Example:
            >>> import tokengroups as tg
            >>> from tokengroups.grounding import ScenePictures
            >>> ScenePictures(tg.example_scene(), size=64).best_views(most=1)
            {1: (0,), 2: (1,), 3: (0,)}
        """
        shares = torch.stack([self._shares(view) for view in range(len(self))])
        found = {}
        for column, group_id in enumerate(self.scene.group_ids.tolist()):
            mine = shares[:, column]
            order = ascending(-mine.numpy(), _SAME_SHARE).tolist()
            found[group_id] = tuple(view for view in order if float(mine[view]) >= _LEAST_SHARE)[:most]
        return found

    def marked(self, group_id: int, view: int) -> Float[Tensor, "H W 3"]:
        """Picture of a view with one group painted red."""
        pixels, columns = self._view(view)
        return draw_mask(pixels.float() / 255, columns == column_of(self.scene, group_id))

    def all_marked(self, views: dict[int, tuple[int, ...]]) -> Iterator[tuple[str, Float[Tensor, "H W 3"]]]:
        """Names without suffix and pictures of groups in views."""
        for group_id, mine in views.items():
            for view in mine:
                yield f"group_{group_id:03d}_view_{view:03d}", self.marked(group_id, view)

    def _shares(self, view: int) -> Float[Tensor, " L"]:
        """Share of a view's pixels that shows each group, by column."""
        columns = self._view(view)[1]
        counts = torch.bincount(columns[columns >= 0], minlength=len(self.scene.group_ids))
        return counts.double() / columns.numel()

    def _draw(self, view: int) -> tuple[UInt8[Tensor, "H W 3"], Int64[Tensor, "H W"]]:
        """Colours, and at each pixel the column of its group, -1 = none."""
        (rendered,) = render_views(self.scene, select_cameras(self.cameras, [view]))
        ids, order = self.scene.group_ids.sort()
        places = torch.searchsorted(ids, rendered.group_map.clamp(min=0)).clamp(max=len(ids) - 1)
        columns = order[places].masked_fill_(rendered.group_map < 0, -1)
        color = rendered.color.clamp(0, 1)
        if self.photos is not None:
            photo = rearrange(self.photos[view].load(self.cameras.size_hw), "c h w -> h w c")
            self._compare(view, photo, color)
            return photo.mul(255).round().byte(), columns
        return color.mul(255).round().byte(), columns

    def _compare(self, view: int, photo: Float[Tensor, "H W 3"], rendering: Float[Tensor, "H W 3"]) -> None:
        """Note a photo that looks unlike the scene."""
        assert self.photos is not None
        blurred = [
            torch.nn.functional.adaptive_avg_pool2d(picture.mean(dim=-1)[None], _BLUR_PX).flatten()
            for picture in (photo, rendering)
        ]
        values = torch.stack(blurred) - torch.stack(blurred).mean(dim=1, keepdim=True)
        alike = float((values[0] @ values[1]) / (values[0].norm() * values[1].norm()).clamp(min=1e-9))
        name = shown(self.photos[view].path.name)
        message = f"{name} looks unlike the scene from its camera; are these the scene's photos?"
        if alike < _ALIKE and message not in self.notes:
            self.notes.append(message)


def draw_mask(picture: Float[Tensor, "H W 3"], mask: Bool[Tensor, "H W"]) -> Float[Tensor, "H W 3"]:
    """Paint a mask half red, with a yellow outline around it.

    Example:
        >>> import torch
        >>> from tokengroups.grounding import draw_mask
        >>> mask = torch.tensor([[False, False, True]])
        >>> draw_mask(torch.zeros(1, 3, 3), mask)[0]
        tensor([[0.0, 0.0, 0.0],
                [1.0, 1.0, 0.0],
                [0.5, 0.0, 0.0]])
    """
    width = max(round(_OUTLINE * max(mask.shape)), 1)
    grown = torch.nn.functional.max_pool2d(mask[None].float(), 2 * width + 1, stride=1, padding=width)[0] > 0
    painted = (1 - _RED_ALPHA) * picture + _RED_ALPHA * picture.new_tensor(_RED)
    picture = torch.where(mask[..., None], painted, picture)
    return torch.where((grown & ~mask)[..., None], picture.new_tensor(_YELLOW), picture)
