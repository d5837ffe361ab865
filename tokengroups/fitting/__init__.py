"""Scenes made by optimisation from posed photos with instance masks: no trained weights, one scene at a time."""

from tokengroups.fitting.config import FitConfig
from tokengroups.fitting.fit import FitProgress, FitResult, fit_scene

__all__ = ["FitConfig", "FitProgress", "FitResult", "fit_scene"]
