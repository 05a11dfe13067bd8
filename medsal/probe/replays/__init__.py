"""Replays: a pass is kept, and later ones run only what a change reaches."""
