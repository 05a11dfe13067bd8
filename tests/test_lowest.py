"""`make lowest-test` runs with the versions that pyproject.toml promises."""

import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
# What users install: the package, and the extras that are no tools.
EXTRAS = ("bundle", "dicom", "train")


def test_each_lower_bound_is_what_is_tested() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    lines = [*project["dependencies"], *(line for name in EXTRAS for line in extras[name])]
    promised = {
        canonicalize_name(each.name): Version(spec.version)
        for each in map(Requirement, lines)
        for spec in each.specifier
    }
    pinned = (ROOT / "tests" / "lowest.txt").read_text("utf-8").splitlines()
    tested = {
        canonicalize_name(each.name): Version(next(iter(each.specifier)).version)
        for each in (Requirement(line) for line in pinned if not line.startswith("#"))
    }
    assert tested == promised
