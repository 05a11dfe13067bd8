"""Visits: a model is looked through, held as it was, and left without a trace."""
