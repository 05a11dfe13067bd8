"""`medsal check`, tried as a user would."""

import json
from pathlib import Path

import pytest

from medsal.cli import main


def test_a_method_is_checked_and_the_answers_are_said(
    bundle: Path, scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    with pytest.raises(SystemExit) as stop:
        main(["check", str(bundle), str(scan), "-o", str(out), "--target", "ring"])
    said = capsys.readouterr()
    assert (stop.value.code, said.err) == (0, "")
    names = {path.name for path in out.iterdir()}
    stem = "patient-7_desc-gradcam_check"
    assert names == {f"{stem}.json", f"{stem}.png"}
    found = json.loads((out / f"{stem}.json").read_text())
    assert found["Target"] == "ring"
    assert "gradcam of ring" in said.out
    for name, line in found["Summary"].items():
        assert f"{name}: {line.partition(':')[0]}." in said.out
    for name in names:
        assert name in said.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--method", "gradcamm"], "'gradcam'"),
        (["--method", "gradient", "--layer", "features"], "looks at no layer"),
        (["--target", "rign"], "ring"),
    ],
)
def test_bad_input_is_one_line(
    bundle: Path,
    scan: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    words: str,
) -> None:
    out = tmp_path / "out"
    with pytest.raises(SystemExit) as stop:
        main(["check", str(bundle), str(scan), "-o", str(out), *arguments])
    err = capsys.readouterr().err
    assert stop.value.code == 2
    assert err.startswith("medsal: ")
    assert err.count("\n") == 1
    assert words in err
    assert not out.exists()
