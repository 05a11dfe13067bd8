"""`medsal explain --dicom`: objects that lie on the series, or one line that says why not."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK

from medsal.cli import main
from tests.export import ct_series


def test_dicom_beside_the_other_files(bundle: Path, scan: Path, tmp_path: Path, capsys) -> None:
    source = ct_series.write(tmp_path / "ct")
    out = tmp_path / "out"
    with pytest.raises(SystemExit) as stop:
        main(["explain", str(bundle), str(source), "-o", str(out), "--dicom"])
    said = capsys.readouterr()
    assert not stop.value.code, said.err
    (path,) = out.glob("*_map.dcm")
    assert f"    {path.name}\n" in said.out
    assert f"    {path.name.removesuffix('_map.dcm')}_pictures\n" in said.out
    (nifti,) = out.glob("*_saliency.nii.gz")
    written = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(nifti)))
    frames = np.frombuffer(pydicom.dcmread(path).FloatPixelData, np.float32)
    np.testing.assert_array_equal(frames.reshape(written.shape), written)
    with pytest.raises(SystemExit) as stop:
        main(["explain", str(bundle), str(scan), "-o", str(tmp_path / "no"), "--dicom"])
    assert stop.value.code == 2
    assert "no DICOM series" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()
