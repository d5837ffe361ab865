"""Network blocks shared by encoders and systems."""
