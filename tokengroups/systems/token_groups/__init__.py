"""Token groups."""
