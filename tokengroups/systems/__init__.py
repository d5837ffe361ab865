"""Systems: from an encoder's geometry to scenes of groups."""
