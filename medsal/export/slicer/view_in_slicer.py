"""Show maps over their scan in 3D Slicer, from the files as they are.

    Slicer --python-script view_in_slicer.py SCAN MAP [MAP ...]

The first map is in the foreground, the views cross at its peak. A signed map becomes two volumes,
of what speaks for its target and of what speaks against it. Everything below a quarter of the
largest magnitude is left out. It needs nothing but 3D Slicer.
"""

import sys

import numpy as np
import slicer
import vtk

COLOURS = {1: "vtkMRMLColorTableNodeFileInferno.txt", -1: "vtkMRMLColorTableNodeFileViridis.txt"}
DRAWN = 0.25


def show(scan_path, map_paths):
    """Load the files, and show the first map over the scan."""
    scan = slicer.util.loadVolume(scan_path)
    parts = [part for path in map_paths for part in split(slicer.util.loadVolume(path))]
    slicer.util.setSliceViewerLayers(background=scan, foreground=parts[0], foregroundOpacity=0.5)
    slicer.util.resetSliceViews()
    slicer.modules.markups.logic().JumpSlicesToLocation(*peak(parts[0]), False)
    return scan, parts


def split(volume):
    """A map, or of a signed one its two parts, coloured."""
    values = slicer.util.arrayFromVolume(volume)
    top = float(np.abs(values).max()) or 1.0
    if values.min() >= -1e-6 * top:
        return [coloured(volume, top, 1)]
    negative = slicer.modules.volumes.logic().CloneVolume(volume, f"{volume.GetName()} (against)")
    slicer.util.updateVolumeFromArray(negative, np.maximum(-values, 0))
    slicer.util.updateVolumeFromArray(volume, np.maximum(values, 0))
    volume.SetName(f"{volume.GetName()} (for)")
    return [coloured(volume, top, 1), coloured(negative, top, -1)]


def coloured(volume, top, sign):
    """The volume, shown from 0 to top."""
    display = volume.GetDisplayNode()
    display.SetAndObserveColorNodeID(COLOURS[sign])
    display.AutoWindowLevelOff()
    display.SetWindowLevelMinMax(0.0, top)
    display.SetThreshold(DRAWN * top, 1e30)
    display.ApplyThresholdOn()
    return volume


def peak(volume):
    """Where the largest value lies, RAS mm."""
    values = slicer.util.arrayFromVolume(volume)
    k, j, i = np.unravel_index(values.argmax(), values.shape)
    to_ras = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(to_ras)
    return to_ras.MultiplyPoint((float(i), float(j), float(k), 1.0))[:3]


if __name__ == "__main__":
    if len(sys.argv) < 3:
        raise SystemExit("usage: Slicer --python-script view_in_slicer.py SCAN MAP [MAP ...]")
    show(sys.argv[1], sys.argv[2:])
