"""Taps: which layers there are, which one is meant, and how it becomes the leaf of a graph."""
