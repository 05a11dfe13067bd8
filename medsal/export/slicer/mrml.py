"""MRML, the language of 3D Slicer's scenes: the nodes that a scene of maps is made of."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias
from xml.etree import ElementTree

import numpy as np
from jaxtyping import Float

# Axes of the view in RAS: across, up, towards the reader; as Slicer's own default views have them.
VIEWS = {
    "Red": ("Axial", ((-1, 0, 0), (0, 1, 0), (0, 0, 1))),
    "Yellow": ("Sagittal", ((0, -1, 0), (0, 0, 1), (-1, 0, 0))),
    "Green": ("Coronal", ((-1, 0, 0), (0, 0, 1), (0, 1, 0))),
}
PIXELS = 400
COLOURS = 256
# The oldest Slicer whose way of writing scenes this is; newer ones read it as their own.
VERSION = "Slicer 5.0.0 30822"
GREY = "vtkMRMLColorTableNodeGrey"

Nodes: TypeAlias = Iterator[ElementTree.Element]


@dataclass(frozen=True)
class Looks:
    """How a volume is shown.

    Attributes:
        colours: the id of a colour table.
        low: the value at the table's first colour.
        high: at its last one.
        threshold: values below it are not drawn; None = all are.
    """

    colours: str
    low: float
    high: float
    threshold: float | None = None


def document(nodes: Sequence[ElementTree.Element]) -> str:
    """The scene's text."""
    root = ElementTree.Element("MRML", version=VERSION, userTags="")
    root.extend(nodes)
    ElementTree.indent(root, " ")
    text = ElementTree.tostring(root, encoding="unicode", short_empty_elements=False)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


def volume(number: int, name: str, file: str, looks: Looks, said: str = "") -> Nodes:
    """A volume, how it is shown, and where its voxels are."""
    storage, display = (
        f"vtkMRMLVolumeArchetypeStorageNode{number}",
        _display("ScalarVolume", number),
    )
    yield _node(
        "VolumeArchetypeStorage", storage, hidden=True, fileName=file, useCompression="1",
        centerImage="0", UseOrientationFromFile="1",
    )  # fmt: skip
    cut = looks.threshold is not None
    yield _node(
        "VolumeDisplay", display, hidden=True, colorNodeID=looks.colours,
        window=_number(looks.high - looks.low), level=_number((looks.high + looks.low) / 2),
        autoWindowLevel="0", applyThreshold=str(int(cut)), autoThreshold="0",
        lowerThreshold=_number(looks.threshold if looks.threshold is not None else looks.low),
        upperThreshold="1e+30", interpolate="1",
    )  # fmt: skip
    references = f"display:{display};storage:{storage};"
    yield _node("Volume", volume_id(number), name=name, description=said, references=references)


def colour_table(number: int, name: str, file: str, said: str) -> Nodes:
    """Colours of a scene's own, and where they are."""
    storage = f"vtkMRMLColorTableStorageNode{number}"
    yield _node("ColorTableStorage", storage, hidden=True, fileName=file, useCompression="1")
    yield _node(
        "ColorTable", colours_id(number), name=name, description=said, type="13",
        numcolors=str(COLOURS), references=f"storage:{storage};",
    )  # fmt: skip


def segmentation(number: int, name: str, file: str, of: int, visible: bool) -> Nodes:
    """A segmentation, shown as an outline, that lies on a volume's grid."""
    storage = f"vtkMRMLSegmentationStorageNode{number}"
    display = _display("Segmentation", number)
    yield _node("SegmentationStorage", storage, hidden=True, fileName=file, useCompression="1")
    yield _node(
        "SegmentationDisplay", display, hidden=True, visibility=_bool(visible),
        visibility2D="true", visibility3D="true", Visibility2DFill="false",
        Visibility2DOutline="true", Opacity2DOutline="1", sliceIntersectionThickness="2",
    )  # fmt: skip
    yield _node(
        "Segmentation", f"vtkMRMLSegmentationNode{number}", name=name,
        references=f"display:{display};storage:{storage};"
        f"referenceImageGeometryRef:{volume_id(of)};",
    )  # fmt: skip


def views(
    peak: Sequence[float],
    box: Float[np.ndarray, "2 3"],
    background: int,
    foreground: int,
    opacity: float,
) -> Nodes:
    """Three slice views through a point that show a whole box, and a crosshair at the point.

    Args:
        peak: where the views cross, RAS mm.
        box: the smallest and the largest corner, RAS mm.
        background: the number of the volume in the background.
        foreground: of the one in the foreground.
        opacity: of the foreground, 0 to 1.
    """
    for colour, (orientation, axes) in VIEWS.items():
        yield _node(
            "Slice", f"vtkMRMLSliceNode{colour}", name=colour, singletonTag=colour,
            layoutName=colour, orientation=orientation, orientationReference=orientation,
            fieldOfView=f"{_number(1.05 * float((box[1] - box[0]).max()))} " * 2 + "1",
            dimensions=f"{PIXELS} {PIXELS} 1", sliceToRAS=_slice_to_ras(axes, peak, box),
        )  # fmt: skip
        yield _node(
            "SliceComposite", f"vtkMRMLSliceCompositeNode{colour}", singletonTag=colour,
            hidden=True, layoutName=colour, compositing="0", foregroundOpacity=_number(opacity),
            linkedControl="1", hotLinkedControl="1",
            references=f"backgroundVolume:{volume_id(background)};"
            f"foregroundVolume:{volume_id(foreground)};",
        )  # fmt: skip
    yield _node(
        "Selection", "vtkMRMLSelectionNodeSingleton", singletonTag="Singleton", hidden=True,
        references=f"ActiveVolume:{volume_id(background)};"
        f"SecondaryVolume:{volume_id(foreground)};",
    )  # fmt: skip
    yield _node(
        "Crosshair", "vtkMRMLCrosshairNodedefault", singletonTag="default", hidden=True,
        crosshairMode="ShowBasic", crosshairRAS=" ".join(map(_number, peak)),
    )  # fmt: skip


def volume_id(number: int) -> str:
    """The id of a volume of a scene."""
    return f"vtkMRMLScalarVolumeNode{number}"


def colours_id(number: int) -> str:
    """The id of a colour table of a scene."""
    return f"vtkMRMLColorTableNode{number}"


def _display(kind: str, number: int) -> str:
    return f"vtkMRML{kind}DisplayNode{number}"


def _node(tag: str, id: str, *, hidden: bool = False, **attributes: str) -> ElementTree.Element:
    hiding = {"hideFromEditors": "true"} if hidden else {}
    return ElementTree.Element(tag, {"id": id, **attributes, **hiding})


def _slice_to_ras(
    axes: Sequence[Sequence[int]], peak: Sequence[float], box: Float[np.ndarray, "2 3"]
) -> str:
    """The view's matrix: the box's middle in the view's plane, the peak's depth."""
    towards = np.abs(axes[2])
    origin = np.where(towards == 1, peak, box.mean(0))
    matrix = np.column_stack([*np.array(axes, dtype=np.float64), origin])
    rows = [*matrix.tolist(), [0.0, 0.0, 0.0, 1.0]]
    return " ".join(_number(each) for row in rows for each in row)


def _number(value: float) -> str:
    return f"{value:.9g}"


def _bool(value: bool) -> str:
    return "true" if value else "false"
