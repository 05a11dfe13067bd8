"""The pages build without a warning, and the reference has every public name."""

import importlib
import subprocess
import sys
import zlib
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = (
    "medsal",
    *(f"medsal.{each}" for each in ["monai", "evaluate", "view", "export", "scan", "space"]),
)


@pytest.mark.skipif(not find_spec("mkdocstrings"), reason="needs pip install 'medsal[docs]'")
def test_every_public_name_is_in_the_reference(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mkdocs",
            "build",
            "--strict",
            "-f",
            "configs/mkdocs.yml",
            "-d",
            tmp_path,
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    inventory = (tmp_path / "objects.inv").read_bytes().split(b"\n", 4)[4]
    known = {line.split()[0] for line in zlib.decompress(inventory).decode().splitlines()}
    for package in PACKAGES:
        module = importlib.import_module(package)
        for name in module.__all__:
            found = getattr(module, name)
            home = f"{getattr(found, '__module__', package)}.{getattr(found, '__qualname__', name)}"
            assert {home, f"{package}.{name}"} & known, f"{package}.{name}"
    # An example whose heading is not known runs together as prose.
    assert 'class="example"' not in (tmp_path / "reference.html").read_text("utf-8")
    derived = (tmp_path / "how_it_works.html").read_text("utf-8")
    assert derived.count('display="block"') == derived.count("<math") - derived.count("inline") > 5
    assert "$" not in derived.partition("<h1")[2].partition("<footer")[0]
    assert len(list(tmp_path.glob("0*.html"))) == 9
