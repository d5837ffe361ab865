"""Data sets: their interface, readers of recorded ones, the procedural rooms, and examples cut from any of them."""
