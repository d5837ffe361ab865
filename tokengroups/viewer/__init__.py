"""Look at a scene in a browser: packed scenes and the page that draws them."""

from tokengroups.viewer.pack import MAX_GROUPS as MAX_GROUPS
from tokengroups.viewer.pack import PackedScene as PackedScene
from tokengroups.viewer.pack import pack_scene as pack_scene
from tokengroups.viewer.page import page_html as page_html

__all__ = ["MAX_GROUPS", "PackedScene", "pack_scene", "page_html"]
