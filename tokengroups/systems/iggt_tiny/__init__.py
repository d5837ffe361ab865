"""A small instance field on the tiny encoder, after IGGT."""

from tokengroups.systems.iggt_tiny.head import TinyInstanceHead, TinyInstanceHeadConfig
from tokengroups.systems.iggt_tiny.system import IGGTTiny, IGGTTinyConfig, IGGTTinySettings

__all__ = ["IGGTTiny", "IGGTTinyConfig", "IGGTTinySettings", "TinyInstanceHead", "TinyInstanceHeadConfig"]
