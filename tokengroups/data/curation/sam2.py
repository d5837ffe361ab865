"""SAM 2 for curation, through transformers (extra ``curation``): masks of everything in a photo, and tracking.

Weights are a local folder in transformers' layout, such as a download of facebook/sam2.1-hiera-large; it serves both.
Photos are squeezed to the model's square, as SAM 2 does.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from tokengroups.compat import prepare_torchvision
from tokengroups.data.curation.base import Frames, Mask, Photo, Proposal
from tokengroups.data.curation.crops import crop_boxes, is_cut_off
from tokengroups.data.curation.regions import without_small_regions
from tokengroups.data.curation.suppression import box_suppression, mask_box
from tokengroups.errors import UserError
from tokengroups.nn.precision import autocast
from tokengroups.reading import read_json, shown

_INSTALL = "install it with: pip install 'tokengroups[curation]'"
_DOWNLOAD = "give a folder of SAM 2 in transformers' layout, e.g. of facebook/sam2.1-hiera-large, with --weights DIR"
_KINDS = ("sam2", "sam2_video")
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_POINTS_PER_SIDE, _POINTS_AT_ONCE, _MASKS_AT_ONCE = 32, 64, 16
_MIN_IOU, _STABILITY_OFFSET, _BOX_IOU, _MIN_AREA = 0.7, 1.0, 0.7, 100


class Sam2Proposer:
    """SAM 2's automatic masks: a grid of points on the photo, and on crops of it.

    Args:
        weights: Folder of the model.
        device: cpu or cuda.
    """

    def __init__(self, weights: Path | None, device: str) -> None:
        self.model = _load("Sam2Model", weights, device)
        self.side = int(self.model.prompt_encoder.input_image_size)

    @torch.inference_mode()
    def propose(self, photo: Photo, min_stability: float, crop_layers: int) -> list[Proposal]:
        """Propose masks (see `Proposer`)."""
        found: list[Proposal] = []
        scores: list[float] = []
        for top, left, height, width in crop_boxes(photo.shape[:2], crop_layers):
            crop = photo[top : top + height, left : left + width]
            for proposal in self._propose_in(crop, min_stability):
                mask = np.zeros(photo.shape[:2], bool)
                mask[top : top + height, left : left + width] = proposal.mask
                if not is_cut_off(mask, (top, left, height, width)):
                    found.append(Proposal(mask, proposal.predicted_iou, proposal.stability))
                    scores.append(1 / (height * width))  # small crops see more
        boxes = np.array([mask_box(proposal.mask) for proposal in found], np.float64).reshape(-1, 4)
        return [found[index] for index in box_suppression(boxes, np.array(scores), _BOX_IOU)]

    def _propose_in(self, photo: Photo, min_stability: float) -> list[Proposal]:
        pixels = _normalised(photo, self.side).to(self.model.device)
        with _fast(self.model):
            embeddings = self.model.get_image_embeddings(pixels[None])
        ticks = (torch.arange(_POINTS_PER_SIDE) + 0.5) * (self.side / _POINTS_PER_SIDE)
        found: list[Proposal] = []
        for points in torch.cartesian_prod(ticks, ticks).flip(-1).to(pixels).split(_POINTS_AT_ONCE):
            labels = torch.ones(1, len(points), 1, dtype=torch.int64, device=pixels.device)
            with _fast(self.model):
                output = self.model(
                    image_embeddings=embeddings, input_points=points[None, :, None], input_labels=labels
                )
            ious = output.iou_scores.flatten().float()
            good = ious > _MIN_IOU
            logits = output.pred_masks.flatten(0, 2)[good].float()
            found += _stable_masks(logits, ious[good], photo.shape[:2], min_stability)
        boxes = np.array([mask_box(proposal.mask) for proposal in found], np.float64).reshape(-1, 4)
        kept = box_suppression(boxes, np.array([proposal.predicted_iou for proposal in found]), _BOX_IOU)
        return [found[index] for index in kept]


class Sam2Propagator:
    """SAM 2's video predictor. Memory does not grow with the clip: what no later frame looks at is forgotten.

    Args:
        weights: Folder of the model.
        device: cpu or cuda.
    """

    def __init__(self, weights: Path | None, device: str) -> None:
        self.model = _load("Sam2VideoModel", weights, device)
        self.side = int(self.model.config.image_size)
        config = self.model.config
        self.memory = max(int(config.num_maskmem), int(config.max_object_pointers_in_encoder))

    @torch.inference_mode()
    def propagate(
        self, frames: Frames, prompts: Mapping[int, Mapping[int, Mask]], reverse: bool
    ) -> Iterator[tuple[int, dict[int, Mask]]]:
        """Follow objects (see `Propagator`)."""
        session = self._session(frames)
        for frame in sorted(prompts):
            for number, mask in prompts[frame].items():
                session.add_mask_inputs(session.obj_id_to_idx(number), frame, self._prompt(mask))
            session.obj_with_new_inputs = list(prompts[frame])
            self._step(session, frame, False)  # takes the masks as they are; without this call only the first counts
        for outputs in session.output_dict_per_obj.values():
            outputs["non_cond_frame_outputs"].clear()
        height, width = frames[0].shape[:2]
        first = min(prompts)
        steps = range(first, -1, -1) if reverse else range(first, len(frames))
        for frame in steps:
            output = self._step(session, frame, reverse)
            logits = functional.interpolate(
                output.pred_masks.float(), (height, width), mode="bilinear", align_corners=False
            )
            masks = (logits[:, 0] > 0).cpu().numpy()
            yield frame, dict(zip(output.object_ids, masks, strict=True))

    def _step(self, session: Any, frame: int, reverse: bool) -> Any:
        """Masks of a frame. What no later frame needs is dropped: masks at full size, and frames out of reach."""
        with _fast(self.model):
            output = self.model(session, frame_idx=frame, reverse=reverse)
        for outputs in session.output_dict_per_obj.values():
            for kind in outputs.values():
                kind.get(frame, {}).pop("high_res_masks", None)
            tracked = outputs["non_cond_frame_outputs"]
            for old in [other for other in tracked if abs(other - frame) > self.memory]:
                del tracked[old]
        return output

    def _session(self, frames: Frames) -> Any:
        height, width = frames[0].shape[:2]
        places = {"inference_device": self.model.device, "inference_state_device": self.model.device}
        session = _transformers().Sam2VideoInferenceSession(
            video_height=height, video_width=width, dtype=torch.float32, **places
        )
        session.processed_frames = _NormalisedFrames(frames, self.side)
        return session

    def _prompt(self, mask: Mask) -> Float[Tensor, "1 1 S S"]:
        square = torch.from_numpy(mask)[None, None].float()
        square = functional.interpolate(square, (self.side, self.side), mode="bilinear", antialias=True)
        return (square >= 0.5).float()


class _NormalisedFrames:
    """Frames as a session asks for them, each read when it is needed."""

    def __init__(self, frames: Frames, side: int) -> None:
        self.frames, self.side = frames, side

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> Float[Tensor, "3 S S"]:
        return _normalised(self.frames[index], self.side)


def _stable_masks(
    logits: Float[Tensor, "N h w"], ious: Float[Tensor, " N"], size_hw: tuple[int, ...], min_stability: float
) -> list[Proposal]:
    """Masks at the photo's size that change little with the threshold, without small islands and holes."""
    found = []
    for part, scores in zip(logits.split(_MASKS_AT_ONCE), ious.split(_MASKS_AT_ONCE), strict=True):
        full = functional.interpolate(part[:, None], list(size_hw), mode="bilinear", align_corners=False)[:, 0]
        inner, outer = ((full > offset).sum(dim=(1, 2)) for offset in (_STABILITY_OFFSET, -_STABILITY_OFFSET))
        stability = inner / outer.clamp(min=1)
        for index in torch.nonzero(stability > min_stability).flatten().tolist():
            mask = without_small_regions((full[index] > 0).cpu().numpy(), _MIN_AREA)
            if mask.any():
                found.append(Proposal(mask, float(scores[index]), float(stability[index])))
    return found


def _normalised(photo: Photo, side: int) -> Float[Tensor, "3 S S"]:
    pixels = rearrange(torch.from_numpy(photo), "h w c -> c h w").float() / 255
    pixels = functional.interpolate(pixels[None], (side, side), mode="bilinear", antialias=True)[0]
    return (pixels - torch.tensor(_MEAN)[:, None, None]) / torch.tensor(_STD)[:, None, None]


def _load(kind: str, weights: Path | None, device: str) -> Any:
    """Load a model in evaluation mode.

    Raises:
        UserError: transformers is missing or old, or the folder has no complete SAM 2.
    """
    if weights is None:
        raise UserError(f"SAM 2 needs its weights; {_DOWNLOAD}")
    if not (weights / "config.json").is_file():
        raise UserError(f"{weights}: no config.json in it; {_DOWNLOAD}")
    config = read_json(weights / "config.json", _DOWNLOAD)
    found = config.get("model_type") if isinstance(config, dict) else None
    if found not in _KINDS:
        raise UserError(f"{weights}: a model of kind '{shown(found)}', not SAM 2; {_DOWNLOAD}")
    transformers = _transformers()
    log = transformers.utils.logging
    level, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        options = {"local_files_only": True, "dtype": torch.float32, "output_loading_info": True}
        model, report = getattr(transformers, kind).from_pretrained(weights, **options)
    except Exception as error:  # whatever the libraries below transformers raise for damaged files
        raise UserError(f"{weights}: cannot be loaded ({shown(error)}); {_DOWNLOAD}") from error
    finally:
        log.set_verbosity(level)
        if bars:
            log.enable_progress_bar()
    if report["missing_keys"]:
        lacking = f"{len(report['missing_keys'])} tensors, such as {sorted(report['missing_keys'])[0]}"
        raise UserError(f"{weights}: lacks {lacking}; {_DOWNLOAD}")
    return model.to(device).eval()


def _fast(model: Any) -> contextlib.AbstractContextManager[Any]:
    """Context of matrix products in bfloat16 on a GPU, as SAM 2 runs."""
    return autocast("bf16" if model.device.type == "cuda" else "fp32", model.device)


def _transformers() -> Any:
    prepare_torchvision()
    try:
        import transformers
    except ImportError:
        raise UserError(f"SAM 2 needs the package transformers; {_INSTALL}") from None
    if not hasattr(transformers, "Sam2VideoModel"):
        raise UserError(f"SAM 2 needs transformers 4.56 or newer, not {transformers.__version__}; {_INSTALL}")
    return transformers
