"""Methods on MONAI's networks: the right map or the right refusal, and no trace.

All methods on all networks take an hour: `pytest -m matrix tests/networks`, or
`python -m tests.networks.matrix`, whose page is tutorials/networks.md. Here every light network
meets a method of each kind, and a few meet all of them.
"""

import warnings

import pytest

from tests.networks.matrix import (
    GUIDED,
    LAYERED,
    build,
    methods,
    outcome,
    read_page,
    refusal,
    table,
)
from tests.networks.zoo import ZOO

# The others take more than a second: they are for the whole matrix.
HEAVY = (
    "VNet", "MedNeXt", "AHNet", "SENet", "SERes", "SwinUNETR", "HighResNet 3D", "ResNet1",
    "ResNet3", "ResNet5", "DenseNet1", "Efficient", "VISTA3D", "FlexibleUNet", "BasicUNet",
    "UNETR 3D", "AttentionUnet 3D", "SegResNet 3D", "SegResNetVAE 3D",
    "DynUNet(deep supervision) 3D",
)  # fmt: skip
LIGHT = [name for name, each in ZOO.items() if not each.needs and not name.startswith(HEAVY)]
KINDS = ("hirescam", "guided_backprop")
EVERY = ("Classifier(ReLU) 2D", "UNet 1D", "ViT(perceptron) 2D")


def checked(name: str, chosen: list[str]) -> None:
    entry = ZOO[name]
    with warnings.catch_warnings():
        # MONAI and torch warn of their own affairs as they build a network.
        warnings.simplefilter("ignore")
        network = build(entry)
        for method in chosen:
            found = outcome(entry, network, method)
            assert found == "right" or refusal(entry, method), f"{method}: {found}"


@pytest.mark.parametrize("name", LIGHT)
def test_a_method_of_each_kind(name: str) -> None:
    checked(name, list(KINDS))


@pytest.mark.parametrize("name", EVERY)
def test_every_method(name: str) -> None:
    checked(name, methods())


@pytest.mark.matrix
@pytest.mark.parametrize("name", ZOO)
def test_every_method_on_every_network(name: str) -> None:
    if ZOO[name].lacks:
        pytest.skip(f"{name} needs {ZOO[name].lacks}, which is not installed")
    checked(name, methods())


def test_what_is_defined_where() -> None:
    """The refusals that are expected say why; all else has to work."""
    for name, entry in ZOO.items():
        refused = {method for method in methods() if refusal(entry, method)}
        allowed = {"cam", *(() if entry.guided else GUIDED), *(() if entry.layers else LAYERED)}
        assert refused <= allowed, name


def test_a_page_is_read_as_it_was_written(tmp_path) -> None:
    columns = ["cam", "gradient"]
    rows = {"UNet 2D": ["refused: for a reason. It has two sentences", "right"]}
    page = tmp_path / "page.md"
    page.write_text(table(rows, columns), "utf-8")
    assert read_page(page, columns) == rows
