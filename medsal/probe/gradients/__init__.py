"""Gradients: where a graph begins, what it keeps, and what is taken from it."""
