"""What is written for 3D Slicer, as SimpleITK, pynrrd and the standard library read it."""

import json
import zipfile
from pathlib import PurePosixPath
from xml.etree import ElementTree

import nrrd
import numpy as np
import on_grids as cases
import pytest
import SimpleITK

from medsal import Gradient, export, scan
from medsal.export import write_volume
from medsal.export.slicer import Segment, write_segmentation

GRIDS = pytest.mark.parametrize("affine", cases.GRIDS.values(), ids=cases.GRIDS)


@pytest.fixture
def unpack(tmp_path):
    """A scene's tree, and the folder that its files lie in."""

    def unpack(path):
        if path.suffix == ".mrb":
            with zipfile.ZipFile(path) as archive:
                assert archive.testzip() is None
                names = [PurePosixPath(name) for name in archive.namelist()]
                assert {name.parts[0] for name in names} == {path.stem}
                archive.extractall(tmp_path / "unpacked")
            path = tmp_path / "unpacked" / path.stem / f"{path.stem}.mrml"
        return ElementTree.parse(path).getroot(), path.parent

    return unpack


def itk_peak(path):
    image = SimpleITK.ReadImage(str(path))
    values = np.abs(SimpleITK.GetArrayFromImage(image)).T
    index = [int(i) for i in np.unravel_index(values.argmax(), values.shape)]
    x, y, z = image.TransformIndexToPhysicalPoint(index)
    return np.array([-x, -y, z])


@pytest.mark.parametrize("suffix", [".mrb", ".mrml"])
@GRIDS
def test_a_scene_is_whole_and_its_volumes_lie_right(tmp_path, unpack, affine, suffix):
    found = cases.result(affine, cases.speaking(), cases.signed())
    made = export.save(found, tmp_path / f"case{suffix}", home=False, classes=["no", "yes"])
    assert all(path.is_file() for path in made)
    root, folder = unpack(tmp_path / f"case{suffix}")
    ids = [node.get("id") for node in root]
    assert len(set(ids)) == len(ids)
    for node in root:
        for reference in filter(None, (node.get("references") or "").split(";")):
            assert reference.split(":")[1] in ids
        if node.get("fileName"):
            assert (folder / node.get("fileName")).is_file()
    volumes = {node.get("name"): node for node in root.iter("Volume")}
    assert list(volumes) == [
        "case", "hirescam of no", "hirescam of yes (for)", "hirescam of yes (against)"
    ]  # fmt: skip
    peaks = dict(zip(volumes, [None, cases.PEAK, cases.PEAK, cases.VALLEY], strict=True))
    for name, node in volumes.items():
        storage = node.get("references").split("storage:")[1].rstrip(";")
        (file,) = (each.get("fileName") for each in root if each.get("id") == storage)
        if peaks[name] is not None:
            expected = cases.place(affine, peaks[name])
            np.testing.assert_allclose(itk_peak(folder / file), expected, atol=0.01)


def test_views_cross_at_the_peak_of_the_first_map(tmp_path, unpack):
    affine = cases.GRIDS["left-handed"]
    found = cases.result(affine, cases.speaking())
    root, _ = unpack(export.save(found, tmp_path / "case.mrb", home=False)[0])
    peak = cases.place(affine, cases.PEAK)
    views = {node.get("name"): node for node in root.iter("Slice")}
    depths = [
        np.array(views[name].get("sliceToRAS").split(), float).reshape(4, 4)[axis, 3]
        for axis, name in enumerate(("Yellow", "Green", "Red"))
    ]
    np.testing.assert_allclose(depths, peak, atol=1e-4)
    (cross,) = root.iter("Crosshair")
    np.testing.assert_allclose(np.array(cross.get("crosshairRAS").split(), float), peak, atol=1e-4)


def test_targets_of_a_method_share_a_scale_and_methods_do_not(tmp_path, unpack):
    affine = cases.GRIDS["oblique"]
    source = write_volume(tmp_path / "head.nii.gz", cases.scan(), affine)
    cam = cases.result(affine, cases.speaking(), 0.25 * cases.speaking(), path=str(source))
    other = cases.result(affine, 7 * cases.signed(), path=str(source), method=Gradient())
    made = export.save_case([cam, other], scan.read(source), tmp_path / "out", classes=["a", "b"])
    (packed,) = (path for path in made if path.suffix == ".mrb")
    root, folder = unpack(packed)
    shown = {node.get("id"): node for node in root.iter("VolumeDisplay")}
    looks = {}
    for node in root.iter("Volume"):
        display = shown[node.get("references").split("display:")[1].split(";")[0]]
        window, level = float(display.get("window")), float(display.get("level"))
        looks[node.get("name")] = (level - window / 2, level + window / 2)
    top, far = float(cases.speaking().max()), 7 * float(cases.signed().max())
    assert looks["gradcam of a"] == pytest.approx((0, top))
    assert looks["gradcam of b"] == pytest.approx((0, top))
    assert looks["gradient of a (for)"] == pytest.approx((0, far))
    assert looks["gradient of a (against)"] == pytest.approx((0, far))
    # The maps in the scene are those beside it, with how they were made.
    stem = "head_label-a_desc-gradcam_saliency"
    for name in (f"{stem}.nii.gz", f"{stem}.json"):
        assert (folder / "Data" / name).read_bytes() == (tmp_path / "out" / name).read_bytes()


@GRIDS
def test_a_hot_region_is_named_coloured_and_in_its_place(tmp_path, affine):
    data = cases.signed()
    found = cases.result(affine, data)
    path, sidecar = export.save(found, tmp_path / "hot.seg.nrrd", home=False, share=0.4)
    labels, header = nrrd.read(str(path))
    assert header["Segment0_Name"] == "hirescam of 0 (for), at least 40% of the maximum, 0.32"
    assert header["Segment1_Name"] == "hirescam of 0 (against), at least 40% of the maximum, 0.2"
    assert header["Segment0_Color"] != header["Segment1_Color"]
    np.testing.assert_array_equal(labels == 1, data >= np.float32(0.4 * data.max()))
    np.testing.assert_array_equal(labels == 2, -data >= np.float32(-0.4 * data.min()))
    first, _, second, *_ = map(int, header["Segment0_Extent"].split())
    assert [first, second] == [index.min() for index in np.nonzero(labels == 1)[:2]]
    space = np.diag([-1, -1, 1]) @ np.array(header["space directions"]).T
    np.testing.assert_allclose(space, affine[:3, :3], atol=1e-5)
    said = json.loads(sidecar.read_text())["HotRegions"]
    assert [each["Voxels"] for each in said] == [(labels == 1).sum(), (labels == 2).sum()]
    assert said[0]["Threshold"] == pytest.approx(0.4 * data.max())
    volume = abs(np.linalg.det(affine[:3, :3])) * said[0]["Voxels"] / 1000
    assert said[0]["VolumeML"] == pytest.approx(volume, abs=1e-5)


def test_an_empty_map_has_a_scene_and_no_hot_region(tmp_path, unpack):
    empty = cases.result(cases.GRIDS["oblique"], np.zeros(cases.SHAPE, np.float32))
    root, _ = unpack(export.save(empty, tmp_path / "empty.mrb", home=False)[0])
    assert not list(root.iter("Segmentation"))
    with pytest.raises(ValueError, match="empty"):
        export.save(empty, tmp_path / "empty.seg.nrrd", home=False)
    assert [path.name for path in tmp_path.glob("empty*")] == ["empty.mrb"]


def test_overlapping_segments_are_refused(tmp_path):
    mask = np.ones(cases.SHAPE, bool)
    pair = [Segment(name, mask, (1.0, 0.0, 0.0), {}) for name in "ab"]
    with pytest.raises(ValueError, match="overlap"):
        write_segmentation(tmp_path / "a.seg.nrrd", pair, np.eye(4))


def test_pictures_and_signals_have_no_scene(tmp_path):
    flat = np.random.default_rng(0).random((20, 14)).astype(np.float32)
    picture = cases.result(np.eye(4), flat, path="cat.png", image=flat[None])
    with pytest.raises(ValueError, match=r"picture has no place.*png"):
        export.save(picture, tmp_path / "cat.mrb", home=False)
    signal = cases.result(np.eye(4), flat[0], image=flat[:1])
    with pytest.raises(ValueError, match=r"signal .* no place.*png"):
        export.save(signal, tmp_path / "signal.mrml", home=False)
    assert not list(tmp_path.iterdir())


def test_a_slice_of_a_patient_has_a_scene(tmp_path, unpack):
    affine = cases.GRIDS["oblique"]
    flat = cases.speaking()[..., 5]
    found = cases.result(affine, flat, image=cases.scan()[None, ..., 5])
    _, folder = unpack(export.save(found, tmp_path / "one.mrb", home=False)[0])
    (file,) = folder.glob("Data/*_saliency.nii.gz")
    np.testing.assert_allclose(itk_peak(file), cases.place(affine, (*cases.PEAK[:2], 0)), atol=0.01)
