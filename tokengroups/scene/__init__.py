"""Token scenes: file, groups, views, and exchange with other programs."""

from tokengroups.scene.capture_exporting import CAPTURES, ExportedCapture, export_capture
from tokengroups.scene.example import example_scene
from tokengroups.scene.exporting import WRITERS, export_groups, export_scene, writer_for
from tokengroups.scene.file import load_scene, save_scene
from tokengroups.scene.groups import GroupSummary, group_centre, summarise
from tokengroups.scene.importing import ImportedScene, import_scene
from tokengroups.scene.moving import cameras_in_scene, move_scene, scale_scene, world_from_scene
from tokengroups.scene.paths import path_cameras
from tokengroups.scene.views import (
    SceneView,
    highlight,
    orbit_cameras,
    render_cutouts,
    render_portrait,
    render_portraits,
    render_views,
    visible_shares,
)

__all__ = [
    "CAPTURES",
    "WRITERS",
    "ExportedCapture",
    "GroupSummary",
    "ImportedScene",
    "SceneView",
    "cameras_in_scene",
    "example_scene",
    "export_capture",
    "export_groups",
    "export_scene",
    "group_centre",
    "highlight",
    "import_scene",
    "load_scene",
    "move_scene",
    "orbit_cameras",
    "path_cameras",
    "render_cutouts",
    "render_portrait",
    "render_portraits",
    "render_views",
    "save_scene",
    "scale_scene",
    "summarise",
    "visible_shares",
    "world_from_scene",
    "writer_for",
]
