"""Training and evaluation data: procedural rooms, recorded rooms in ScanNet's layout, and sampling from both."""
