"""Optional steps after an encoder or a system."""
