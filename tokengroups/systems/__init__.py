"""Systems: from an encoder's geometry to scenes of groups. Each is a package; none imports a sibling."""

from __future__ import annotations

from tokengroups.systems.base import SceneSystem, System
from tokengroups.systems.inputs import TrainingPhotos
from tokengroups.systems.weights import DEFAULT_WEIGHTS, SYSTEMS, load_model, save_system

__all__ = ["DEFAULT_WEIGHTS", "SYSTEMS", "SceneSystem", "System", "TrainingPhotos", "load_model", "save_system"]
