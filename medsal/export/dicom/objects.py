"""DICOM objects of a map: a segmentation, a parametric map, and pictures."""

from dataclasses import dataclass
from importlib import metadata
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from medsal.export.dicom.series import MAKER, Series
from medsal.export.slicer import Segment

RESEARCH = "Research only; not a diagnosis"
# Of positions [mm]: written with fewer digits than that, they leave the grid.
ROUNDED = 0.005


@dataclass(frozen=True, eq=False)
class Described:
    """A map in the words of DICOM.

    Attributes:
        name: the method and the target.
        method: its definition.
        data: ``(x, y, z)``, raw, on the series' grid.
        number: of the series that is made.
    """

    name: str
    method: str
    data: Float32[np.ndarray, "x y z"]
    number: int

    @property
    def frames(self) -> Float32[np.ndarray, "z y x"]:
        return np.ascontiguousarray(self.data.transpose(2, 1, 0))


def segmentation(series: Series, shown: Described, segment: Segment, kind: int) -> Any:
    """A hot region as a binary SEG; one alone, since GDCM (ITK) places no stack of several.

    Args:
        series: what it lies on.
        shown: the map.
        segment: the region.
        kind: which of the map's series it becomes.
    """
    import highdicom
    from pydicom.sr.codedict import codes

    described = highdicom.seg.SegmentDescription(
        segment_number=1,
        segment_label=_short(segment.name),
        segmented_property_category=codes.SCT.SpatialAndRelationalConcept,
        segmented_property_type=codes.DCM.ClassActivation,
        algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=_algorithm(shown),
        tracking_uid=highdicom.UID(),
        tracking_id=_short(segment.name),
        display_color=highdicom.color.CIELabColor.from_rgb(
            *(round(255 * part) for part in segment.colour)
        ),
    )
    found = highdicom.seg.Segmentation(
        source_images=series.slices,
        pixel_array=np.ascontiguousarray(segment.mask.transpose(2, 1, 0)).astype(np.uint8),
        segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[described],
        content_label="HOT_REGION",
        content_description=RESEARCH,
        **_made(shown, kind),
    )
    _place(found, series)
    return _finished(found, f"{shown.name}: hot region")


def parametric_map(series: Series, shown: Described) -> Any:
    """The raw numbers, float32, as class activation.

    dcmqi, by which 3D Slicer imports parametric maps, needs two things that the standard does not:
    the anatomy of the frames, and frames that ascend along the normal of their planes.
    """
    import highdicom
    from pydicom.sr.codedict import codes

    low, high = float(shown.data.min()), float(shown.data.max())
    mapping = highdicom.pm.RealWorldValueMapping(
        lut_label="SALIENCY",
        lut_explanation="raw value of the saliency map",
        unit=codes.UCUM.NoUnits,
        value_range=(low, high),
        slope=1.0,
        intercept=0.0,
        quantity_definition=codes.DCM.ClassActivation,
    )
    top = max(high, -low) or 1.0
    bottom = -top if low < 0 else 0.0
    found = highdicom.pm.ParametricMap(
        source_images=series.slices,
        pixel_array=shown.frames,
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[mapping],
        voi_lut_transformations=[
            highdicom.VOILUTTransformation(
                window_center=(top + bottom) / 2,
                window_width=top - bottom,
                voi_lut_function="LINEAR_EXACT",  # else a width below 1 is not allowed
            )
        ],
        content_label="SALIENCY",
        content_description=RESEARCH,
        **_made(shown, 1),
    )
    _place(found, series)
    _name_anatomy(found)
    _ascend(found)
    return _finished(found, f"{shown.name}: map")


def pictures(series: Series, shown: Described, colours: UInt8[np.ndarray, "z y x 3"]) -> list[Any]:
    """The map over the slices as secondary captures, which any PACS shows."""
    import highdicom

    alike = {
        "photometric_interpretation": "RGB",
        "bits_allocated": 8,
        "coordinate_system": "PATIENT",
        "manufacturer": MAKER,
        "series_instance_uid": highdicom.UID(),
        "series_number": shown.number + 2,
        "transfer_syntax_uid": "1.2.840.10008.1.2.1",
    }
    found = []
    for i, (source, picture) in enumerate(zip(series.slices, colours, strict=True), 1):
        capture = highdicom.sc.SCImage.from_ref_dataset(
            source,
            np.ascontiguousarray(picture),
            patient_orientation=_orientation(source),
            pixel_spacing=tuple(float(each) for each in source.PixelSpacing),
            sop_instance_uid=highdicom.UID(),
            instance_number=i,
            **alike,
        )
        capture.SourceImageSequence = [_reference(source)]
        if part := source.get("BodyPartExamined"):
            capture.BodyPartExamined = part
        else:
            # Without a body part its side must be there; empty, it is unknown.
            capture.Laterality = source.get("Laterality", "")
        found.append(_finished(capture, f"{shown.name}: pictures"))
    return found


def _made(shown: Described, kind: int) -> dict[str, Any]:
    """What every object says of its maker."""
    import highdicom

    return {
        "series_instance_uid": highdicom.UID(),
        "series_number": shown.number + kind,
        "sop_instance_uid": highdicom.UID(),
        "instance_number": 1,
        "manufacturer": MAKER,
        "manufacturer_model_name": MAKER,
        "software_versions": metadata.version("medsal"),
        "device_serial_number": "none",
    }


def _algorithm(shown: Described) -> Any:
    import highdicom
    from pydicom.sr.codedict import codes

    return highdicom.AlgorithmIdentificationSequence(
        name=MAKER,
        family=codes.DCM.ArtificialIntelligence,
        version=metadata.version("medsal"),
        parameters={"method": shown.method},
    )


def _finished(dataset: Any, name: str) -> Any:
    dataset.SeriesDescription = _short(name)
    return dataset


def _place(dataset: Any, series: Series) -> None:
    """Frames where the grid has them.

    Headers state wrong gaps between slices, which readers believe; and where positions are rounded,
    GDCM (ITK) finds no grid in them.
    """
    (measures,) = dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence
    measures.SpacingBetweenSlices = f"{series.gap:.10g}"
    for group in dataset.PerFrameFunctionalGroupsSequence:
        (position,) = group.PlanePositionSequence
        given = [float(each) for each in position.ImagePositionPatient]
        regular = series.nearest(given)
        if np.abs(regular - given).max() > ROUNDED:
            position.ImagePositionPatient = [f"{each:.6f}" for each in regular]


def _name_anatomy(dataset: Any) -> None:
    """The frames' anatomy, as far as it is known: a part of a body."""
    from pydicom.dataset import Dataset
    from pydicom.sr.codedict import codes

    anatomy = Dataset()
    anatomy.FrameLaterality = "U"
    region = Dataset()
    code = codes.SCT.AnatomicalStructure
    region.CodeValue, region.CodingSchemeDesignator = code.value, code.scheme_designator
    region.CodeMeaning = code.meaning
    anatomy.AnatomicRegionSequence = [region]
    dataset.SharedFunctionalGroupsSequence[0].FrameAnatomySequence = [anatomy]


def _ascend(dataset: Any) -> None:
    """Frames in the order of the source: ascending along the cross product of rows and columns."""
    groups = list(dataset.PerFrameFunctionalGroupsSequence)
    axes = [
        float(each)
        for each in dataset.SharedFunctionalGroupsSequence[0]
        .PlaneOrientationSequence[0]
        .ImageOrientationPatient
    ]
    normal = np.cross(axes[:3], axes[3:])
    heights = [
        float(normal @ [float(x) for x in each.PlanePositionSequence[0].ImagePositionPatient])
        for each in groups
    ]
    order = np.argsort(heights)
    size = (len(groups), dataset.Rows, dataset.Columns)
    frames = np.frombuffer(dataset.FloatPixelData, np.float32).reshape(size)
    dataset.FloatPixelData = frames[order].tobytes()
    dataset.PerFrameFunctionalGroupsSequence = [groups[i] for i in order]


def _orientation(source: Any) -> tuple[str, str]:
    """Towards which side of the patient rows and columns run for the most part."""
    axes = np.array([float(each) for each in source.ImageOrientationPatient]).reshape(2, 3)
    across, down = (
        (("R", "L"), ("A", "P"), ("F", "H"))[i][int(axis[i] > 0)]
        for axis, i in zip(axes, np.abs(axes).argmax(1), strict=True)
    )
    return across, down


def _reference(source: Any) -> Any:
    from pydicom.dataset import Dataset

    reference = Dataset()
    reference.ReferencedSOPClassUID = source.SOPClassUID
    reference.ReferencedSOPInstanceUID = source.SOPInstanceUID
    return reference


def _short(text: str) -> str:
    """At most 64 characters, as DICOM has it."""
    return text if len(text) <= 64 else f"{text[:61]}..."
