"""Where maps lie: voxel grids in RAS mm, and the way from the network's grid to the scan's."""

from medsal.space.agreement import Agreement, agree
from medsal.space.grid import Grid, coverage, orthonormality, resample
from medsal.space.homeward import come_home, home

__all__ = [
    "Agreement",
    "Grid",
    "agree",
    "come_home",
    "coverage",
    "home",
    "orthonormality",
    "resample",
]
