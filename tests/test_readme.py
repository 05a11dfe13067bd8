"""The README's Python runs as it stands."""

import re
import warnings
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), re.S | re.M)


def test_the_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert BLOCKS
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    with warnings.catch_warnings():
        # MONAI warns of optional packages as it reads an image.
        warnings.filterwarnings("ignore", module="monai")
        for block in BLOCKS:
            exec(compile(block, "README.md", "exec"), names)
    assert (tmp_path / "saliency.nii.gz").exists()
    assert (tmp_path / "saliency.json").exists()


def test_links_lead_somewhere() -> None:
    text = README.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        assert link.startswith("http") or (README.parent / link).exists(), link
