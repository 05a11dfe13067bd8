"""Reading what comes in: a scan's voxels, their place in RAS mm, and what is odd about the file."""

from medsal.scan.reading import KINDS, Scan, read

__all__ = ["KINDS", "Scan", "read"]
