"""Training: one loop for every task, exact resume, one or many processes."""
