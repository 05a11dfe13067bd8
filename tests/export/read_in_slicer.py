"""Open files by 3D Slicer's own code and say what it sees, as JSON. Run by an interpreter that has
slicer-core: `python read_in_slicer.py SCENE OUT`. OUT gets `seen.json` and a picture of each view.
"""

import json
import sys
from pathlib import Path

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

SIZE = 256


def open_scene(path: Path, out: Path) -> "slicer.vtkMRMLScene":
    scene = slicer.vtkMRMLScene()
    logic = slicer.vtkMRMLApplicationLogic()
    logic.SetMRMLScene(scene)
    # The application has the built-in grey; this library leaves it to us.
    grey = slicer.vtkMRMLColorTableNode()
    grey.SetTypeToGrey()
    grey.SetSingletonTag("Grey")
    grey.SetName("Grey")
    scene.AddNode(grey)
    scene.SetRootDirectory(str(path.parent))
    if path.suffix == ".mrb":
        cache, data = slicer.vtkCacheManager(), slicer.vtkDataIOManager()
        cache.SetRemoteCacheDirectory(str(out))
        data.SetCacheManager(cache)
        scene.SetCacheManager(cache)
        scene.SetDataIOManager(data)
        opened = scene.ReadFromMRB(str(path), False, None)
    else:
        scene.SetURL(str(path))
        opened = scene.Import()
    assert opened, f"Slicer does not open {path}"
    return scene


def nodes(scene, kind: str) -> list:
    return [scene.GetNthNodeByClass(i, kind) for i in range(scene.GetNumberOfNodesByClass(kind))]


def matrix(found) -> list:
    return [[found.GetElement(i, j) for j in range(4)] for i in range(4)]


def volume(node) -> dict:
    to_ras = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(to_ras)
    image = node.GetImageData()
    size = image.GetDimensions()
    values = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(size[::-1]).T
    display = node.GetDisplayNode()
    peak = np.unravel_index(np.abs(values).argmax(), values.shape)
    at = np.array(matrix(to_ras)) @ [*peak, 1]
    return {
        "name": node.GetName(),
        "description": node.GetDescription(),
        "affine": matrix(to_ras),
        "shape": list(size),
        "range": [float(values.min()), float(values.max())],
        "sum": float(values.sum(dtype=np.float64)),
        "peak": at[:3].tolist(),
        "colours": display.GetColorNode().GetName() if display.GetColorNode() else None,
        "window": [display.GetWindowLevelMin(), display.GetWindowLevelMax()],
        "threshold": display.GetLowerThreshold() if display.GetApplyThreshold() else None,
    }


def segments(node) -> list[dict]:
    found = []
    segmentation = node.GetSegmentation()
    for i in range(segmentation.GetNumberOfSegments()):
        segment = segmentation.GetNthSegment(i)
        name = segmentation.GetNthSegmentID(i)
        image = slicer.vtkOrientedImageData()
        node.GetBinaryLabelmapRepresentation(name, image)
        to_ras = vtk.vtkMatrix4x4()
        image.GetImageToWorldMatrix(to_ras)
        extent = image.GetExtent()
        size = [extent[k + 1] - extent[k] + 1 for k in (0, 2, 4)]
        values = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(size[::-1]).T
        index = np.argwhere(values > 0) + np.array(extent[::2])
        centre = np.array(matrix(to_ras)) @ [*index.mean(0), 1] if len(index) else [0, 0, 0, 1]
        found.append(
            {
                "name": segment.GetName(),
                "colour": list(segment.GetColor()),
                "voxels": len(index),
                "centre": [float(each) for each in centre[:3]],
                "segmentation": node.GetName(),
                "visible": bool(node.GetDisplayNode().GetVisibility()),
            }
        )
    return found


def view(scene, node, out: Path) -> dict:
    """A slice view as Slicer blends it, SIZE x SIZE, and where its pixels lie."""
    node.SetDimensions(SIZE, SIZE, 1)
    node.UpdateMatrices()
    logic = slicer.vtkMRMLSliceLogic()
    logic.SetMRMLScene(scene)
    logic.SetSliceNode(node)
    logic.UpdatePipeline()
    blend = logic.GetBlend()
    blend.Update()
    image = blend.GetOutput()
    pixels = vtk_to_numpy(image.GetPointData().GetScalars())
    size = image.GetDimensions()
    picture = pixels.reshape(size[1], size[0], -1)[..., :3]
    np.save(out / f"{node.GetName()}.npy", picture)
    writer = vtk.vtkPNGWriter()
    writer.SetInputData(image)
    writer.SetFileName(str(out / f"{node.GetName()}.png"))
    writer.Write()
    return {
        "name": node.GetName(),
        "orientation": node.GetOrientation(),
        "pixel_to_ras": matrix(node.GetXYToRAS()),
    }


def main(path: Path, out: Path) -> None:
    scene = open_scene(path, out)
    seen = {
        "volumes": [volume(each) for each in nodes(scene, "vtkMRMLScalarVolumeNode")],
        "segments": [
            part for each in nodes(scene, "vtkMRMLSegmentationNode") for part in segments(each)
        ],
        "views": [view(scene, each, out) for each in nodes(scene, "vtkMRMLSliceNode")],
        "composites": [
            [scene.GetNodeByID(each.GetBackgroundVolumeID()).GetName(),
             scene.GetNodeByID(each.GetForegroundVolumeID()).GetName(),
             each.GetForegroundOpacity()]
            for each in nodes(scene, "vtkMRMLSliceCompositeNode")
        ],
        "crosshair": list(nodes(scene, "vtkMRMLCrosshairNode")[0].GetCrosshairRAS()),
    }  # fmt: skip
    (out / "seen.json").write_text(json.dumps(seen, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
