"""Look at a scene in a browser: packed scenes and the page that draws them."""

from tokengroups.view.pack import MAX_GROUPS as MAX_GROUPS
from tokengroups.view.pack import PackedScene as PackedScene
from tokengroups.view.pack import pack_scene as pack_scene
from tokengroups.view.page import page_html as page_html

__all__ = ["MAX_GROUPS", "PackedScene", "pack_scene", "page_html"]
