"""The measurements: closed forms, and the reports on files of every format."""

import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK

from medsal.demo import BUNDLE, LESION_MASK, SCAN, evaluate

# MONAI's LoadImage tries every reader it knows, the one of an absent DICOM decoder among them.
pytestmark = pytest.mark.filterwarnings("ignore:NvImgCodecPydicomReader:UserWarning")

TUMOUR = Path(__file__).parents[2] / "../shared/data/mr_tumour"


@pytest.fixture(scope="module")
def network():
    return evaluate.load_network()


def test_wilsons_interval_is_the_published_one():
    # Newcombe 1998, Statistics in Medicine 17, table I: 81 of 263 gives 0.2553 to 0.3662.
    assert evaluate.wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert evaluate.wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)
    assert evaluate.wilson(29, 29) == pytest.approx((0.8830, 1.0), abs=1e-4)


def test_the_report_counts_right_ones_per_class():
    text = evaluate.report_accuracy(np.array([[9, 1, 0], [0, 8, 2], [0, 0, 10]]), "here")
    assert "all     0.900" in text
    assert "bright  0.800" in text
    assert "(27 of 30)" in text


def test_the_report_on_peaks_gives_quartiles():
    found = [evaluate.Peak(edge, centre) for edge, centre in ((0.0, 2.0), (0.0, 4.0), (6.0, 16.0))]
    text = evaluate.report_peaks({"gradcam": found}, "here")
    assert "3 lesions classified rightly" in text
    assert "0.0 (0.0 to 3.0)" in text
    assert "4.0 (3.0 to 10.0)" in text
    assert "0.67" in text


def test_the_demo_scans_peak_lies_at_the_lesion(network):
    text = evaluate.one_scan(network, BUNDLE, SCAN, LESION_MASK, ["gradcam"])
    assert ": ring (" in text
    assert "inside the mask" in text or float(text.split("; ")[1].split(" mm")[0]) < 8


def test_other_formats_read_alike(network, tmp_path):
    copy = tmp_path / "scan.nrrd"
    SimpleITK.WriteImage(SimpleITK.ReadImage(str(SCAN)), str(copy))
    first, second = (evaluate.one_scan(network, BUNDLE, p, None, []) for p in (SCAN, copy))
    shares = [[float(v) for v in re.findall(r"0\.\d+", text)] for text in (first, second)]
    # A copy's header is rounded otherwise: the grid may gain a voxel at its end.
    assert shares[0] == pytest.approx(shares[1], abs=0.03)


def test_held_out_samples_are_of_colin27_and_repeat(network):
    first, second = (evaluate.held_out(network, BUNDLE, "plain", 3, ["gradcam"]) for _ in range(2))
    assert np.array_equal(first[0], second[0])
    assert first[1] == second[1]
    assert first[0].sum() == 3


def test_errors_say_what_is_wrong(network, tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        evaluate.one_scan(network, BUNDLE, tmp_path / "no.nii.gz", None, [])
    empty = tmp_path / "empty.nii.gz"
    mask = nib.load(LESION_MASK)
    nib.save(nib.Nifti1Image(np.zeros(mask.shape, np.uint8), mask.affine), empty)
    with pytest.raises(ValueError, match="is empty"):
        evaluate.one_scan(network, BUNDLE, SCAN, empty, [])


@pytest.mark.skipif(not TUMOUR.is_dir(), reason="needs shared/data")
def test_a_real_tumour_can_be_measured(network):
    files = [TUMOUR / f"brain1_{part}.nrrd" for part in ("image", "label")]
    text = evaluate.one_scan(network, BUNDLE, files[0], files[1], ["gradcam"])
    assert "peak at RAS" in text
    assert "mask" in text
