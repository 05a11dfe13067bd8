"""Simulated lesions: their truth is what was asked for, and nothing else gives the class away."""

import math
from dataclasses import replace

import pytest
import torch

from medsal.demo import CLASSES
from medsal.demo.lesions import DIAMETERS, Lesion, draw, generator, paint

SHAPE = (40, 44, 48)
FLAT = torch.ones(SHAPE)
CENTRE = (19.0, 23.0, 25.0)


@pytest.mark.parametrize("kind", ["bright", "ring"])
@pytest.mark.parametrize("mm", [1.0, 2.0])
def test_mask_of_a_smooth_ball_is_the_ball(kind, mm):
    lesion = Lesion(kind=kind, centre=CENTRE, diameter=20.0)
    _, mask = paint(FLAT, FLAT, lesion, mm)
    axes = torch.meshgrid(
        *(torch.arange(n) - c for n, c in zip(SHAPE, CENTRE, strict=True)), indexing="ij"
    )
    distance = torch.stack(axes).norm(dim=0) * mm
    assert torch.equal(mask, distance < 10)
    centroid = torch.nonzero(mask).double().mean(0)
    assert torch.allclose(centroid, torch.tensor(CENTRE, dtype=torch.float64), atol=1e-6)


def test_stretched_and_turned_ball_keeps_volume_and_centre():
    lesion = Lesion("bright", CENTRE, 20.0, stretch=(1.25, 1.0, 0.8), turn=(0.5, -0.2, 1.0))
    _, mask = paint(FLAT, FLAT, lesion, 1.0)
    places = torch.nonzero(mask).double()
    assert torch.allclose(places.mean(0), torch.tensor(CENTRE, dtype=torch.float64), atol=0.1)
    assert len(places) == pytest.approx(math.pi / 6 * 20**3, rel=0.05)
    axes = torch.linalg.eigvalsh(torch.cov(places.T)).sqrt()
    assert (axes / axes.prod() ** (1 / 3)).tolist() == pytest.approx([0.8, 1.0, 1.25], rel=0.03)


def test_bright_is_bright_throughout_and_ring_is_dark_inside():
    bright, _ = paint(FLAT, FLAT, Lesion("bright", CENTRE, 20.0, contrast=0.5), 1.0)
    ring, _ = paint(FLAT, FLAT, Lesion("ring", CENTRE, 20.0, contrast=0.5, core=0.2), 1.0)
    x, y, z = (int(c) for c in CENTRE)
    assert bright[x, y, z] == pytest.approx(1.5, abs=0.2)
    assert ring[x, y, z] == pytest.approx(0.8, abs=0.15)
    assert ring[x + 8, y, z] > 1.25  # 2 mm under the surface, in the rim
    assert ring[x + 14, y, z] == pytest.approx(1.0, abs=1e-4)


def test_none_without_oedema_leaves_the_image_as_it_is():
    image = torch.rand(SHAPE, generator=generator(1)) + 0.5
    painted, _ = paint(image, FLAT, Lesion("none", CENTRE, 20.0), 1.0)
    assert torch.equal(painted, image)


def test_none_with_oedema_only_darkens():
    painted, _ = paint(FLAT, FLAT, Lesion("none", CENTRE, 20.0, oedema=0.3), 1.0)
    assert painted.max() <= 1 + 1e-6
    assert painted.min() == pytest.approx(0.7, abs=0.01)


def test_nothing_is_painted_outside_the_brain():
    brain = torch.zeros(SHAPE)
    brain[:20] = 1
    painted, mask = paint(FLAT, brain, Lesion("bright", CENTRE, 20.0, oedema=0.2), 1.0)
    assert torch.equal(painted[20:], FLAT[20:])
    assert not mask[20:].any()
    assert mask[:20].any()


def test_the_image_given_stays_untouched():
    image = FLAT.clone()
    paint(image, FLAT, Lesion("bright", CENTRE, 12.0), 1.0)
    assert torch.equal(image, FLAT)


def test_equal_lesions_paint_equal_voxels_and_other_seeds_others():
    rough = Lesion("ring", CENTRE, 18.0, roughness=0.15, seed=3)
    first, second = (paint(FLAT, FLAT, rough, 1.0)[0] for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, paint(FLAT, FLAT, replace(rough, seed=4), 1.0)[0])


def test_kinds_differ_in_the_kind_alone():
    drawn = [draw(generator(5), FLAT, 2.0, kind) for kind in CLASSES]
    assert [lesion.kind for lesion in drawn] == list(CLASSES)
    assert len({replace(lesion, kind="none") for lesion in drawn}) == 1


def test_drawn_lesions_lie_in_the_brain():
    brain = torch.zeros(SHAPE)
    brain[4:36, 4:40, 4:44] = 1
    for seed in range(20):
        lesion = draw(generator(seed), brain, 2.0, "bright")
        assert DIAMETERS[0] <= lesion.diameter <= DIAMETERS[1]
        assert math.prod(lesion.stretch) == pytest.approx(1, rel=1e-4)
        assert brain[tuple(round(c) for c in lesion.centre)] == 1


def test_streams_depend_on_every_seed_and_on_their_order():
    draws = [torch.rand(1, generator=generator(*s)).item() for s in ((1, 2), (2, 1), (1,), (1, 2))]
    assert draws[0] == draws[3]
    assert len(set(draws)) == 3


def test_errors_say_what_is_wrong():
    with pytest.raises(ValueError, match="not one of none, bright, ring"):
        Lesion("blob", CENTRE, 10.0)
    with pytest.raises(ValueError, match="lengths in mm > 0"):
        Lesion("ring", CENTRE, -1.0)
    with pytest.raises(ValueError, match="no voxel in the brain"):
        paint(FLAT, torch.zeros(SHAPE), Lesion("ring", CENTRE, 10.0), 1.0)
    with pytest.raises(ValueError, match="no voxel lies"):
        draw(generator(0), torch.zeros(SHAPE), 2.0, "ring")
