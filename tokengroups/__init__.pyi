"""Unposed photos of a room in, an editable 3D scene of token groups out.

This stub lists the public names, each with the module it comes from, for type checkers and for lazy loading.
"""

from .editing import duplicate as duplicate
from .editing import insert as insert
from .editing import keep as keep
from .editing import merge as merge
from .editing import move as move
from .editing import remove as remove
from .editing import rename as rename
from .editing import rescale as rescale
from .editing import rotate as rotate
from .editing import scale as scale
from .editing import split as split
from .errors import UserError as UserError
from .io.images import load_photos as load_photos
from .scene import example_scene as example_scene
from .scene import load_scene as load_scene
from .scene import render_views as render_views
from .scene import save_scene as save_scene
from .systems import load_model as load_model
from .types import Cameras as Cameras
from .types import Gaussians as Gaussians
from .types import TokenScene as TokenScene
from .viewer import view as view

__version__: str
