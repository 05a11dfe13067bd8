"""Interpolation is what torch's says, however many axes there are."""

import pytest
import torch
import torch.nn.functional as F

from medsal import ops
from medsal.ops import INTERPOLATION, resize
from tests.benchmarks.cost.live import live

GRIDS = [
    ((4,), (13,)),
    ((7, 3), (20, 3)),
    ((4, 4, 4), (32, 32, 32)),
    ((5, 1, 3), (11, 6, 3)),
    ((6, 7, 8), (6, 7, 8)),
    ((9, 8, 12), (4, 3, 5)),
]


@pytest.fixture(autouse=True, params=["large", "small"])
def along_each_axis(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Large maps are resized along one axis after the other; here small ones, too."""
    if request.param == "large":
        monkeypatch.setattr(ops, "_LARGE", 0)


@pytest.mark.parametrize(("cells", "size"), GRIDS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_maps_are_resized_as_torch_does_it(
    cells: tuple[int, ...], size: tuple[int, ...], dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, *cells).to(dtype)
    wide = x.double()
    expected = F.interpolate(wide, size, mode=INTERPOLATION[len(cells)], align_corners=False)
    found = resize(x, size)
    assert found.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    bound = 1e-13 if dtype == torch.float64 else 2e-5
    assert torch.allclose(found.double(), expected, rtol=0, atol=bound)
    assert tuple(found.shape) == (2, 3, *size)
    assert found.untyped_storage().data_ptr() != x.untyped_storage().data_ptr()


def test_maps_in_parts_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(2, 3, 4, 5, 6, dtype=torch.float64)
    whole = resize(x, (9, 10, 11))
    monkeypatch.setattr(ops, "_PART", 700)
    assert torch.equal(resize(x, (9, 10, 11)), whole)
    monkeypatch.setattr(ops, "_PART", 1)
    assert torch.equal(resize(x, (9, 10, 11)), whole)


def test_what_is_between_stays_small() -> None:
    x = torch.randn(1, 8, 4, 4, 4)
    size = (128, 128, 128)
    made = 4 * 8 * 128**3
    assert live(lambda: resize(x, size)) < 1.2 * made


def test_what_is_equal_everywhere_stays_so() -> None:
    found = resize(torch.full((1, 1, 3, 4, 5), 0.1), (7, 8, 9))
    assert torch.allclose(found, torch.tensor(0.1), rtol=1e-6)
    if not ops._LARGE:
        assert torch.equal(found.unique(), torch.tensor([0.1]))


def test_gradients_pass_an_interpolation() -> None:
    x = torch.randn(1, 2, 3, 3, 3, dtype=torch.float64, requires_grad=True)
    (found,) = torch.autograd.grad((resize(x, (8, 7, 6)) ** 2).sum(), x)
    y = F.interpolate(x, (8, 7, 6), mode="trilinear", align_corners=False)
    (expected,) = torch.autograd.grad((y**2).sum(), x)
    assert torch.allclose(found, expected)
