"""Files: atomic writing, photos and pictures, 3DGS PLY, camera lists."""
