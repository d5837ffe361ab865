"""Training losses: pure functions of predictions and ground truth."""
