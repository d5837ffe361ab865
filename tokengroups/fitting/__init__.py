"""Optimisation of single scenes from posed photos without trained weights."""

from tokengroups.fitting.fit import FitConfig, FitProgress, FitResult, fit_scene
from tokengroups.fitting.world import cameras_in_scene, world_from_scene

__all__ = ["FitConfig", "FitProgress", "FitResult", "cameras_in_scene", "fit_scene", "world_from_scene"]
