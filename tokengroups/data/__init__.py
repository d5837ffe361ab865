"""Training and evaluation data: procedural rooms, recorded rooms in ScanNet's layout, sampling from both."""
