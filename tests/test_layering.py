"""Imports point one way; hooks and grad modes stay in one package; heavy packages load late."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "medsal"
# From what everything uses to what uses everything. Areas on one line do not import each other.
LAYERS = [
    {"types"},
    {"ops", "outputs", "regions", "targets"},
    {"probe"},
    {"methods"},
    {"origin", "result"},
    {"explain"},
    {"space", "scan"},
    {"view", "export"},
    {"evaluate"},
    {"classic", "monai"},
    {"demo"},
    {"cli"},
    {"__main__"},
]
# The same inside `probe`.
PARTS = [{"visits", "gradients", "replays"}, {"inputs", "taps"}, {"probe"}]
RANK = {area: i for i, areas in enumerate(LAYERS) for area in areas}
PART_RANK = {part: i for i, parts in enumerate(PARTS) for part in parts}
# A result's own verbs, and what the layers of one line share.
LATE = {("result", "space"), ("result", "view"), ("result", "export")}
TOGETHER = {
    ("targets", "outputs"),
    ("regions", "outputs"),
    ("targets", "regions"),
    ("result", "origin"),
    ("space", "scan"),
    ("export", "view"),
}
LATE_ONLY = {
    "monai",
    "matplotlib",
    "nibabel",
    "SimpleITK",
    "PIL",
    "pandas",
    "scipy",
    "ignite",
    "highdicom",
    "pydicom",
}
ENGINE = {
    "register_forward_hook", "register_forward_pre_hook", "register_full_backward_hook",
    "register_hook", "enable_grad", "no_grad", "inference_mode", "set_grad_enabled",
    "requires_grad_", "backward", "autograd", "TorchFunctionMode", "TorchDispatchMode",
}  # fmt: skip
FILES = sorted(ROOT.rglob("*.py"))


def area_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(tree: ast.AST, path: Path) -> Iterator[tuple[str, bool]]:
    """Every module that is imported, and whether as the file itself is."""
    late = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for node in ast.walk(function)
    }
    typing = {
        id(node)
        for branch in ast.walk(tree)
        if isinstance(branch, ast.If) and "TYPE_CHECKING" in ast.dump(branch.test)
        for node in ast.walk(branch)
    }
    for node in ast.walk(tree):
        early = id(node) not in late and id(node) not in typing
        if isinstance(node, ast.Import):
            yield from ((alias.name, early) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and id(node) not in typing:
            assert node.level == 0, f"{path}: a relative import"
            module = node.module or ""
            if module == "medsal":
                yield from ((f"medsal.{alias.name}", early) for alias in node.names)
            else:
                yield module, early


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path: Path) -> None:
    area = area_of(path)
    if area == "__init__":
        return
    for module, early in imports(ast.parse(path.read_text("utf-8")), path):
        top, _, rest = module.partition(".")
        if top == "medsal":
            to = rest.partition(".")[0]
            if to not in RANK:  # a public name of the package itself: for those at the top
                assert RANK[area] >= RANK["view"], f"{path} imports {module}"
            elif (
                to != area and (area, to) not in TOGETHER and not ((area, to) in LATE and not early)
            ):
                assert RANK[to] < RANK[area], f"{path} imports {module}"
        elif top == "monai":
            assert area in ("monai", "demo"), f"{path} imports {module}"
        elif area not in ("monai", "demo"):
            assert top not in LATE_ONLY or not early, f"{path} imports {module} as it is loaded"


@pytest.mark.parametrize("path", sorted((ROOT / "probe").rglob("*.py")), ids=lambda path: path.stem)
def test_imports_inside_the_probe_point_one_way(path: Path) -> None:
    part = path.relative_to(ROOT / "probe").parts[0].removesuffix(".py")
    if part == "__init__":
        return
    for module, _ in imports(ast.parse(path.read_text("utf-8")), path):
        if module.startswith("medsal.probe."):
            to = module.split(".")[2]
            assert to == part or PART_RANK[to] < PART_RANK[part], f"{path} imports {module}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_models_are_touched_in_one_place(path: Path) -> None:
    if area_of(path) in ("probe", "demo"):
        return
    used = {
        node.attr
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Attribute)
    }
    assert not used & ENGINE, f"{path} uses {sorted(used & ENGINE)}"


def test_import_brings_torch_and_nothing_heavy() -> None:
    code = (
        "import sys, medsal; "
        f"print([each for each in {sorted(LATE_ONLY)!r} if each in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
