"""The one table of tolerances: purpose -> (rtol, atol). A looser entry carries its reason."""

from __future__ import annotations

from typing import NamedTuple


class Tolerance(NamedTuple):
    """Arguments of `torch.testing.assert_close` and `numpy.testing.assert_allclose`."""

    rtol: float
    atol: float


TOLERANCES: dict[str, Tolerance] = {
    # One rounding or a short chain of operations.
    "float64": Tolerance(1e-10, 1e-10),
    "float32": Tolerance(1e-5, 1e-6),
    # Long float32 chains (a transformer block, a whole loss) against another order of summation.
    "float32_chain": Tolerance(1e-4, 1e-5),
    # bfloat16 keeps 8 bits of mantissa.
    "bfloat16": Tolerance(2e-2, 2e-2),
    # Rendered pixels, float32 against float64: accumulated rounding of some hundred layers.
    "render_pixels": Tolerance(0.0, 2e-5),
    # A pair at alpha = 1/255 may fall on the other side in float32 and moves its pixel by up to that much.
    "render_pixels_flip": Tolerance(0.0, 4.5e-3),
}

# Relative L2 error of whole tensors.
RELATIVE_L2: dict[str, float] = {
    "render_gradients": 2e-5,
    # Scenes that no one chose hold needles and near misses of the thresholds, where float32 loses a digit more.
    "render_gradients_random": 1e-4,
    # One pair that flips at alpha = 1/255 changes gradients by this much (reference/performance.md).
    "render_gradients_flip": 1e-3,
    # gsplat's fast math on real splats, 5e-6 to 0.3 wide, some of which touch many pixels: 1.5e-3 seen on an H200.
    "render_gradients_fast_math": 3e-3,
    "vggt_tokens": 2e-6,
    "vggt_pose": 3e-6,
    "vggt_depth_points": 1e-5,
}


def tolerance(purpose: str) -> dict[str, float]:
    """Keyword arguments `rtol` and `atol` for this purpose."""
    return TOLERANCES[purpose]._asdict()
