"""Optimisation of single scenes from posed photos without trained weights."""

from tokengroups.fitting.fit import FitConfig, FitProgress, FitResult, fit_scene

__all__ = ["FitConfig", "FitProgress", "FitResult", "fit_scene"]
