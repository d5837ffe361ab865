"""Systems: from an encoder's geometry to scenes of groups. Each is a package; none imports a sibling."""

from __future__ import annotations

from tokengroups.systems.base import SceneSystem, System
from tokengroups.systems.inputs import TrainingPhotos
from tokengroups.systems.known_world import distance_between, scaled
from tokengroups.systems.registered import (
    GivenPhotos,
    Registered,
    begin_registered,
    registration_facts,
    registrations_of,
)
from tokengroups.systems.weights import DEFAULT_WEIGHTS, SYSTEMS, load_model, save_system

__all__ = [
    "DEFAULT_WEIGHTS", "SYSTEMS", "GivenPhotos", "Registered", "SceneSystem", "System", "TrainingPhotos",
    "begin_registered", "distance_between", "load_model", "registration_facts", "registrations_of",
    "save_system", "scaled",
]  # fmt: skip
