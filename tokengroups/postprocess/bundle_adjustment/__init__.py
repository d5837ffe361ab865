"""Bundle adjustment of cameras and depth on matched pixels."""
