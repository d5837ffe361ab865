"""Interface of user-defined metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from tokengroups.data.example import Example
from tokengroups.postprocess import Reconstruction
from tokengroups.registry import resolve


@runtime_checkable
class Metric(Protocol):
    """A function that returns one number per scene; evaluation reports the mean over the scenes.

    Write your own in a file, say ``my_metrics.py``, and measure it with ``tokengroups evaluate --metric
    my_metrics:edge_error``::

        def edge_error(images, prediction, scene):
            true = scene.targets.images
            return float((images.diff(dim=-1) - true.diff(dim=-1)).abs().mean())
    """

    def __call__(self, images: Float[Tensor, "T 3 H W"], prediction: Reconstruction, scene: Example) -> float:
        """Compare the rendered target views in [0, 1], or the reconstruction, with the truth in `scene`."""
        ...


def load_metrics(paths: Sequence[str]) -> dict[str, Metric]:
    """Import functions by ``package.module:function``; the result is keyed by the functions' names.

    Raises:
        UserError: There is no such function.
    """
    return {path.rpartition(":")[2]: resolve(path, {}, "metric") for path in paths}
