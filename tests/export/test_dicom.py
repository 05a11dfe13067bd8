"""DICOM objects, as highdicom, SimpleITK, dcmqi and dciodvfy read them; asymmetric data."""

import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

import ct_series
import highdicom
import numpy as np
import on_grids as cases
import pydicom
import pytest
import SimpleITK
from pydicom.sr.codedict import codes

from medsal import export, scan
from medsal.export.dicom import files, save_dicom

REAL = Path(__file__).parents[2] / "../shared/data/dicom_mr_oblique"
STEM = "ct_label-ring_desc-hirescam"
PEAK, VALLEY = (17, 8, 3), (6, 15, 7)


def blob(shape, centre, width):
    at = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij")).astype(float)
    scaled = (at - np.reshape(centre, (3, 1, 1, 1))) / np.reshape(width, (3, 1, 1, 1))
    return np.exp(-(scaled**2).sum(0) / 2)


def signed(shape=ct_series.SHAPE, peak=PEAK, valley=VALLEY, width=(3, 2.5, 1)):
    data = 0.8 * blob(shape, peak, width) - 0.5 * blob(shape, valley, width)
    return data.astype(np.float32)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder of a series' objects."""
    folder = tmp_path_factory.mktemp("dicom")
    source = ct_series.write(folder / "ct")
    case = scan.read(source)
    found = cases.result(case.affine, signed(), image=case.data)
    save_dicom([found], source, folder / "out", classes=["ring"])
    return folder / "out"


def regions(data):
    return data >= np.float32(0.5 * data.max()), -data >= np.float32(-0.5 * data.min())


def in_ras(points):
    return np.asarray(points) * [-1, -1, 1]


def test_all_refer_to_the_series_and_its_patient(made):
    paths = sorted(made.rglob("*.dcm"))
    assert [path.relative_to(made).as_posix() for path in paths] == [
        f"{STEM}_map.dcm",
        *(f"{STEM}_pictures/{i:04d}.dcm" for i in range(1, ct_series.SHAPE[2] + 1)),
        f"{STEM}_seg.dcm",
        f"{STEM}_segAgainst.dcm",
    ]
    source = {f"{ct_series.ROOT}.3.{k + 1}" for k in range(ct_series.SHAPE[2])}
    referred = set()
    for path in paths:
        found = pydicom.dcmread(path)
        assert found.PatientName == "Doe^Jane"
        assert found.PatientID == "P-77"
        assert found.StudyInstanceUID == f"{ct_series.ROOT}.1"
        assert found.SeriesInstanceUID != f"{ct_series.ROOT}.2"
        assert found.Manufacturer == "medsal"
        assert "Doe" not in path.name
        sources = {each.ReferencedSOPInstanceUID for each in found.SourceImageSequence}
        assert sources <= source
        referred |= sources
        if "pictures" not in str(path):
            assert found.FrameOfReferenceUID == f"{ct_series.ROOT}.4"
    assert referred == source
    assert len({pydicom.dcmread(path).SeriesInstanceUID for path in paths}) == 4
    assert len({pydicom.dcmread(path).SOPInstanceUID for path in paths}) == len(paths)


@pytest.mark.parametrize(
    ("name", "side", "region"), [("seg", "for", 0), ("segAgainst", "against", 1)]
)
def test_segmentation_by_highdicom_and_itk(made, name, side, region):
    path = made / f"{STEM}_{name}.dcm"
    mask = regions(signed())[region]
    middle = cases.place(ct_series.affine(), np.argwhere(mask).mean(0))
    found = highdicom.seg.segread(path)
    said = found.get_segment_description(1).segment_label
    assert said.startswith(f"hirescam of ring ({side}), at least 50% of the maximum, 0.")
    volume = found.get_volume(combine_segments=True)
    index = np.argwhere(volume.array > 0)
    assert len(index) == mask.sum()
    theirs = in_ras(volume.map_indices_to_reference(index.mean(0)[None])[0])
    np.testing.assert_allclose(theirs, middle, atol=0.01)
    image = SimpleITK.ReadImage(str(path))
    assert (SimpleITK.GetArrayFromImage(image) > 0).sum() == mask.sum()
    np.testing.assert_allclose(centre(image), middle, atol=0.01)


def test_parametric_map_holds_the_raw_numbers_as_class_activation(made):
    found = highdicom.imread(made / f"{STEM}_map.dcm")
    volume = found.get_volume()
    assert found.get_volume(dtype=np.float32).array.dtype == np.float32
    index = np.unravel_index(volume.array.argmax(), volume.array.shape)
    theirs = in_ras(volume.map_indices_to_reference(np.array([index]))[0])
    np.testing.assert_allclose(theirs, cases.place(ct_series.affine(), PEAK), atol=0.01)
    frames = np.frombuffer(found.FloatPixelData, np.float32).reshape(ct_series.SHAPE[::-1])
    np.testing.assert_array_equal(frames, signed().T)
    (shared,) = found.SharedFunctionalGroupsSequence
    (mapping,) = shared.RealWorldValueMappingSequence
    (quantity,) = mapping.QuantityDefinitionSequence
    assert quantity.ConceptCodeSequence[0].CodeValue == codes.DCM.ClassActivation.value
    assert shared.FrameAnatomySequence[0].FrameLaterality == "U"
    heights = [
        ct_series.NORMAL @ np.array(each.PlanePositionSequence[0].ImagePositionPatient, float)
        for each in found.PerFrameFunctionalGroupsSequence
    ]
    assert (np.diff(heights) > 0).all()
    assert found.ContentQualification == "RESEARCH"


def test_pictures_show_the_map_where_it_is(made):
    pictures = [pydicom.dcmread(path) for path in sorted(made.glob("*_pictures/*.dcm"))]
    colours = np.stack([each.pixel_array.astype(int) for each in pictures])
    # What speaks for the target is red, what speaks against it blue, the scan and caption grey.
    red = colours[..., 0] - colours[..., 2]
    assert not red[:, ct_series.SHAPE[1] :].any()
    for place, sign in ((PEAK, 1), (VALLEY, -1)):
        z, y, x = np.unravel_index((sign * red).argmax(), red.shape)
        assert (x, y, z) == place
    z = PEAK[2]
    (reference,) = pictures[z].SourceImageSequence
    assert reference.ReferencedSOPInstanceUID == f"{ct_series.ROOT}.3.{PEAK[2] + 1}"
    assert pictures[0].PatientOrientation == ["L", "P"]


def read_by_dcmqi(tool, path, out):
    """What 3D Slicer's own converter makes of an object, as SimpleITK reads it."""
    program = shutil.which(tool)
    if program is None and (found := find_spec("dcmqi")):
        # Where a virtual environment stands on another one, its programs are not on the path.
        root = Path(str(found.origin)).parents[4]
        program = shutil.which(tool, path=str(root / "bin"))
    if program is None:
        pytest.skip("dcmqi is not installed")
    out.mkdir()
    command = [program, "--inputDICOM", str(path), "--outputDirectory", str(out), "-t", "nrrd"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [SimpleITK.ReadImage(str(each)) for each in sorted(out.glob("*.nrrd"))]


def centre(image):
    index = np.argwhere(SimpleITK.GetArrayFromImage(image).T > 0).mean(0)
    return in_ras(image.TransformContinuousIndexToPhysicalPoint(index.tolist()))


def check_by_dcmqi(folder, stem, data, affine, tmp_path):
    (image,) = read_by_dcmqi("paramap2itkimage", folder / f"{stem}_map.dcm", tmp_path / "map")
    values = SimpleITK.GetArrayFromImage(image).T
    np.testing.assert_allclose(values, data, atol=1e-6)
    index = [int(i) for i in np.unravel_index(values.argmax(), values.shape)]
    theirs = in_ras(image.TransformIndexToPhysicalPoint(index))
    ours = cases.place(affine, np.unravel_index(data.argmax(), data.shape))
    np.testing.assert_allclose(theirs, ours, atol=0.01)
    for name, mask in zip(("seg", "segAgainst"), regions(data), strict=True):
        path = folder / f"{stem}_{name}.dcm"
        (image,) = read_by_dcmqi("segimage2itkimage", path, tmp_path / name)
        ours = cases.place(affine, np.argwhere(mask).mean(0))
        for each in (image, SimpleITK.ReadImage(str(path))):
            assert (SimpleITK.GetArrayFromImage(each) > 0).sum() == mask.sum()
            np.testing.assert_allclose(centre(each), ours, atol=0.01)


def test_dcmqi_reads_both_in_place(made, tmp_path):
    check_by_dcmqi(made, STEM, signed(), ct_series.affine(), tmp_path)


@pytest.mark.skipif(not REAL.exists(), reason="no real series here")
@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_a_real_oblique_series_with_rounded_positions(tmp_path):
    case = scan.read(REAL)
    data = signed(case.shape, (180, 70, 5), (60, 150, 14), (12, 15, 1.6))
    found = cases.result(case.affine, data, image=case.data)
    save_dicom([found], case, tmp_path / "out", classes=["ring"])
    stem = f"{case.name}_label-ring_desc-hirescam"
    # Its positions are rounded, each for itself, to 0.07 mm; ours are those of the grid.
    check_by_dcmqi(tmp_path / "out", stem, data, case.affine, tmp_path)


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy is not installed")
@pytest.mark.parametrize("body_part", ["HEAD", ""])
def test_the_standard_is_kept(tmp_path, body_part):
    source = ct_series.write(tmp_path / "ct", body_part)
    case = scan.read(source)
    found = cases.result(case.affine, signed(), image=case.data)
    for path in save_dicom([found], source, tmp_path / "out"):
        done = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True)
        said = (done.stdout + done.stderr).splitlines()
        assert not [line for line in said if line.startswith("Error")], f"{path}: {said}"


def test_several_maps_and_none_that_is_empty(tmp_path):
    source = ct_series.write(tmp_path / "ct")
    case = scan.read(source)
    found = cases.result(case.affine, signed(), 0 * signed(), image=case.data)
    names = {path.name for path in save_dicom([found], source, tmp_path / "out")}
    assert {"ct_label-0_desc-hirescam_seg.dcm", "ct_label-1_desc-hirescam_map.dcm"} <= names
    assert "ct_label-1_desc-hirescam_seg.dcm" not in names
    numbers = [pydicom.dcmread(path).SeriesNumber for path in (tmp_path / "out").glob("*.dcm")]
    assert len(set(numbers)) == len(numbers)


def test_what_is_no_series_or_lies_elsewhere(tmp_path):
    source = ct_series.write(tmp_path / "ct")
    elsewhere = cases.result(cases.GRIDS["oblique"], cases.speaking())
    with pytest.raises(ValueError, match="grid of the series"):
        save_dicom([elsewhere], source, tmp_path / "out")
    nifti = export.write_volume(tmp_path / "a.nii.gz", cases.scan(), cases.GRIDS["oblique"])
    with pytest.raises(ValueError, match="no DICOM series"):
        save_dicom([elsewhere], nifti, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_without_highdicom_it_is_told_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "NEEDED", ("no_such_module_here",))
    with pytest.raises(ImportError, match=r"pip install 'medsal\[dicom\]'"):
        save_dicom([], tmp_path, tmp_path / "out")


def without(folder, *keys):
    """The series without some of its attributes, as anonymised files are."""
    for path in folder.iterdir():
        found = pydicom.dcmread(path)
        for key in keys:
            delattr(found, key)
        found.save_as(path)
    return folder


def test_anonymised_series(tmp_path):
    keys = ("PatientName", "PatientID", "PatientBirthDate", "StudyDate", "StudyID",
            "AccessionNumber", "SliceThickness")  # fmt: skip
    source = without(ct_series.write(tmp_path / "ct"), *keys)
    case = scan.read(source)
    found = cases.result(case.affine, signed(), image=case.data)
    (path, *_) = save_dicom([found], source, tmp_path / "out")
    assert pydicom.dcmread(path).PatientID == ""
    without(source, "FrameOfReferenceUID")
    with pytest.raises(ValueError, match="ct lacks FrameOfReferenceUID"):
        save_dicom([found], source, tmp_path / "none")
    assert not (tmp_path / "none").exists()
