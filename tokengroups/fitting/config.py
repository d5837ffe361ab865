"""The numbers of a fit. Lengths are shares of the scene's extent, so that they hold in every unit."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class LearningRates:
    """Adam's rates: 3D Gaussian Splatting's (Kerbl et al. 2023), larger as a fit is ten times shorter."""

    means: float = 5e-4  # at the first step, in extents
    means_last: float = 5e-6  # at the last one; exponential in between
    quats: float = 2e-3
    log_scales: float = 1e-2
    logits: float = 5e-2
    sh: float = 5e-3
    identities: float = 1e-2
    classifier: float = 1e-2


@dataclass(frozen=True)
class DensityConfig:
    """Density control as Markov chain Monte Carlo (Kheradmand et al. 2024, arXiv 2404.09591)."""

    every: int = 50  # steps between two relocations
    start: float = 0.1  # no relocation before this share of the steps
    stop: float = 0.8  # nor after this one
    dead_opacity: float = 0.005
    growth: float = 0.2  # share that is added at each relocation until the number is reached
    noise: float = 80.0  # of the means at the first step's rate; 5e5 x 1.6e-4 in the paper's code
    opacity_weight: float = 0.01
    scale_weight: float = 0.01


@dataclass(frozen=True)
class IdentityConfig:
    """Group identities (Gaussian Grouping, Ye et al. 2024, arXiv 2312.00732, section 3.2)."""

    channels: int = 16
    weight: float = 1.0  # of the cross-entropy
    max_pixels: int = 8192  # labelled pixels that it is computed on, drawn anew in each step
    neighbour_weight: float = 0.1  # of the regulariser in space
    neighbour_every: int = 5
    neighbours: int = 5
    samples: int = 512


@dataclass(frozen=True)
class FitConfig:
    """Settings of `fit_scene`."""

    steps: int = 2000  # one photo each
    num_gaussians: int | None = None  # None = one for every 16 pixels of all photos, 2,000 to 100,000
    sh_degree: int = 0
    seed: int = 0
    ssim_weight: float = 0.2  # the rest is L1
    rates: LearningRates = field(default_factory=LearningRates)
    density: DensityConfig = field(default_factory=DensityConfig)
    identity: IdentityConfig = field(default_factory=IdentityConfig)

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}")
        if self.num_gaussians is not None and self.num_gaussians < 1:
            raise ValueError(f"num_gaussians must be at least 1, got {self.num_gaussians}")
        if self.sh_degree not in (0, 1, 2, 3):
            raise ValueError(f"sh_degree must be 0, 1, 2 or 3, got {self.sh_degree}")
