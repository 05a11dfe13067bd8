"""Many maps and many slices in one figure: montage, comparison, flight, slider."""

import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest
import torch
from handmade import image_of, make, panels, texts
from matplotlib import pyplot
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from medsal import ClassScore, Difference, GradCAM, GuidedBackprop
from medsal.view import animate, compare, montage, ortho, shared_scale, slider

FLAT = np.diag([1.0, 1.0, 3.0, 1.0])


def picture():
    image = np.random.default_rng(0).integers(0, 255, (3, 30, 44))
    data = np.zeros((30, 44))
    data[20, 7] = 1.0
    return make(image, data)


def several(result, *factors):
    """One target for each factor of the map."""
    data = torch.cat([result.data * factor for factor in factors], dim=1)
    return replace(result, data=data, target=tuple(ClassScore(k) for k in range(len(factors))))


def tops(figure):
    """The ends of the scales of the maps that are not empty."""
    found = [each for axes in panels(figure) for each in axes.images]
    return [each.norm.vmax for each in found if each.get_label() == "saliency"]


@pytest.mark.parametrize("name", ["axial", "coronal", "sagittal"])
def test_montage_shows_the_scans_own_slices_in_order(affine, spot, name):
    result, at = spot(affine)
    normal = {"sagittal": 0, "coronal": 1, "axial": 2}[name]
    unit = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    axis = int(np.argmax(np.abs(unit[normal])))
    figure = montage(result, plane=name, slices=range(result.data.shape[2 + axis]))
    shown = panels(figure)
    assert len(shown) == result.data.shape[2 + axis]
    for index, axes in enumerate(shown):
        for label, source in (("image", result.image), ("saliency", result.data)):
            plane = np.take(source[0, 0].numpy(), index, axis=axis)
            turned = [np.rot90(p, k) for p in (plane, plane.T) for k in range(4)]
            array = image_of(axes, label).get_array()
            assert any(np.array_equal(array, each) for each in turned)
    place = (affine[:3] @ [*at, 1])[normal]
    assert f"{'xyz'[normal]} = {place:.1f}".replace("-", "\N{MINUS SIGN}") in texts(figure)


def test_montage_has_the_peaks_slice_and_skips_empty_ends(spot):
    result, at = spot(FLAT, shape=(12, 12, 60), at=(3, 9, 41))
    image = result.image.clone()
    image[..., :10] = 0
    figure = montage(replace(result, image=image), slices=7)
    said = texts(figure)
    assert len(panels(figure)) == 7
    assert f"slice {at[2] + 1} of 60" in said
    assert all(f"slice {k} of 60" not in said for k in range(1, 11))
    assert "Research use: not a diagnosis" in said
    assert "max 2" in said


def test_elongated_voxels_are_shown_as_they_were_scanned(spot):
    sagittal = np.diag([5.0, 1.0, 1.0, 1.0])
    assert "x = 15.0 mm" in texts(montage(spot(sagittal)[0], slices=4))
    assert "z = 2.0 mm" in texts(montage(spot(np.eye(4))[0], slices=4))


def test_a_picture_is_shown_without_and_with_its_map():
    figure = montage(picture())
    bare, mapped = panels(figure)
    assert not np.any(image_of(bare, "saliency").get_alpha())
    assert np.argwhere(image_of(mapped, "saliency").get_alpha()).tolist() == [[20, 7]]
    for axes in (bare, mapped):
        assert image_of(axes, "image").get_array().shape == (30, 44, 3)


def test_maps_of_a_method_share_a_scale_and_methods_do_not(spot):
    one = several(spot(FLAT)[0], 1, 3, -0.5)
    other = replace(several(spot(FLAT)[0], 1e-3, 2e-3), method=GuidedBackprop(), layer=None)
    figure = compare([one, other], classes=["none", "bright"])
    np.testing.assert_allclose(tops(figure), [6, 6, 4e-3, 4e-3], rtol=1e-6)  # the third is empty
    said = texts(figure)
    assert "one scale for each row: methods differ in their units" in said
    for words in (
        "class 0 (none)",
        "class 1 (bright)",
        "class 2",
        "GradCAM",
        "GuidedBackprop",
        "raw 0 to 2",
        "max 6",
    ):
        assert words in said
    assert "empty map" in said
    np.testing.assert_allclose(tops(compare([one, other], share="all")), [6] * 4, rtol=1e-6)
    alone = compare([one, other], share="none")
    np.testing.assert_allclose(tops(alone), [2, 6, 2e-3, 4e-3], rtol=1e-6)
    assert "a largest value of its own" in texts(alone)
    clipped = compare(one, scale=1.5)
    assert set(tops(clipped)) == {1.5}
    assert "clipped at 1.5" in texts(clipped)
    assert "one scale for all maps" in texts(clipped)


def test_signed_and_unsigned_maps_of_a_method_are_coloured_alike(spot):
    result = several(spot(FLAT)[0], 1, 1)
    data = result.data.clone()
    data[:, 1, 0] = -1.0
    first, second = (
        image_of(axes, "saliency") for axes in panels(compare(replace(result, data=data)))
    )
    assert first.get_cmap().name == second.get_cmap().name
    assert (first.norm.vmin, first.norm.vmax) == (second.norm.vmin, second.norm.vmax) == (-2, 2)


def test_all_maps_are_shown_on_the_slice_through_the_strongest_peak(spot):
    weak, strong = spot(FLAT, at=(3, 9, 2))[0], spot(FLAT, at=(4, 5, 7))[0]
    both = replace(
        weak,
        data=torch.cat([weak.data, 2 * strong.data], 1),
        target=(ClassScore(0), Difference(0, 1)),
    )
    figure = compare(both)
    for axes, value in zip(panels(figure), (0, 4), strict=True):
        assert image_of(axes, "saliency").get_array().max() == value
    assert "RAS (4.0, 5.0, 21.0) mm" in texts(figure)
    assert "class 0 \N{MINUS SIGN} class 1" in texts(figure)
    assert image_of(panels(compare(both, point=(3, 9, 6)))[0], "saliency").get_array().max() == 2


def test_pictures_and_signals_compare():
    figure = compare([picture(), replace(picture(), method=GuidedBackprop())])
    assert len(panels(figure)) == 2
    signal = make(np.random.default_rng(0).normal(size=(2, 50)), np.linspace(0, 1, 50))
    assert len(compare([signal, replace(signal, method=GuidedBackprop())]).axes) == 4


def test_only_maps_on_one_grid_compare(spot):
    with pytest.raises(ValueError, match=r"each\.home"):
        compare([spot(FLAT)[0], spot(np.eye(4))[0]])
    with pytest.raises(ValueError, match="one result or more"):
        compare([])
    with pytest.raises(LookupError, match="'method', 'all', 'none'"):
        compare(spot(FLAT)[0], share="some")


def test_a_shared_scale_for_separate_figures(spot):
    result = several(spot(FLAT)[0], 1, -3)
    scale = shared_scale(result)
    assert (scale.top, scale.signed) == (6, True)
    figure = ortho(result, target=0, scale=scale)
    assert image_of(panels(figure)[0], "saliency").norm.vmin == -6
    assert "one scale for 2 maps" in texts(figure)
    assert "max 2" in texts(figure)


def test_percentiles_of_a_map_are_said(spot):
    result, _ = spot(FLAT)
    ramp = torch.linspace(-1, 100, result.data.numel()).reshape(result.data.shape)
    figure = ortho(replace(result, data=ramp), scale="90%")
    expected = np.percentile(np.abs(ramp.numpy()), 90)
    assert image_of(panels(figure)[0], "saliency").norm.vmax == pytest.approx(expected)
    assert "percentile 90 of the magnitudes above 0; stronger values" in texts(figure)
    assert f"clipped at {expected:.3g}" in texts(figure)
    for wrong in ("90", "0%", "all"):
        with pytest.raises(ValueError, match=r"99\.5%"):
            ortho(result, scale=wrong)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"plane": "axal"}, LookupError, "'axial'"),
        ({"plane": 3}, LookupError, "axes 0 to 2"),
        ({"slices": 0}, ValueError, "one slice or more"),
        ({"slices": [9]}, ValueError, "slices of 0 to 8"),
        ({"columns": 0}, ValueError, "one column"),
    ],
)
def test_errors(spot, options, error, words):
    with pytest.raises(error, match=words):
        montage(spot(FLAT)[0], **options)


def test_the_callers_axes_and_figures(spot):
    result = several(spot(FLAT)[0], 1, 3)
    figure = Figure((9, 3))
    assert compare(result, axes=figure.subplots(1, 2)) is figure
    assert "raw 0 to 6" in texts(figure)
    with pytest.raises(ValueError, match="2 matplotlib Axes"):
        compare(result, axes=Figure().subplots())
    upper, lower = Figure((9, 9)).subfigures(2, 1)
    montage(result, slices=3, figure=upper)
    compare(result, figure=lower)
    assert len(panels(upper.figure)) == 5


@pytest.mark.parametrize("size", [None, (4, 3), (16, 8)])
@pytest.mark.parametrize("kind", ["montage", "compare", "slider"])
def test_no_text_meets_or_leaves_the_page(spot, size, kind):
    result = several(
        spot(FLAT, notes=("a note that has much to say and says it at length; " * 4,) * 3)[0], 1, 3
    )
    figure = None if size is None else Figure(size)
    if kind == "montage":
        figure = montage(result, slices=7, figure=figure, scale=1.0)
    elif kind == "compare":
        methods = [result, replace(result, method=GuidedBackprop())]
        figure = compare(methods, figure=figure, classes=["a long name of a class " * 4] * 2)
    else:
        figure = slider(result, target=1, figure=figure or Figure((9, 6)))
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    found = figure.findobj(
        lambda a: hasattr(a, "get_text") and a.get_text().strip() != "" and a.get_visible()
    )
    boxes = [(text.get_text(), text.get_window_extent(renderer).padded(-1)) for text in found]
    boxes = [(said, box) for said, box in boxes if box.x0 < box.x1]
    page = figure.bbox
    for k, (said, box) in enumerate(boxes):
        assert page.x0 <= box.x0 <= box.x1 <= page.x1, said
        assert page.y0 <= box.y0 <= box.y1 <= page.y1, said
        for other, around in boxes[k + 1 :]:
            assert not box.overlaps(around), (said, other)


def test_a_flight_shows_every_slice_and_rests_at_the_peak(tmp_path, spot):
    result, at = spot(FLAT)
    path = animate(result, tmp_path / "a.gif", dpi=40, seconds=1, slices=range(9))
    with Image.open(path) as film:
        assert film.n_frames == 9
        pictures, times = [], []
        for k in range(9):
            film.seek(k)
            pictures.append(np.asarray(film.convert("RGB")).astype(int))
            times.append(film.info["duration"])
    assert int(np.argmax(times)) == at[2]
    colour = [int((each.max(-1) - each.min(-1) > 60).sum()) for each in pictures]
    assert int(np.argmax(colour)) == at[2]  # the spot is drawn in its slice


def test_a_map_comes_and_goes_over_a_picture(tmp_path):
    with Image.open(animate(picture(), tmp_path / "a.gif", dpi=40)) as film:
        assert film.n_frames > 10


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
def test_a_film_where_ffmpeg_is(tmp_path, spot):
    path = animate(spot(FLAT)[0], tmp_path / "a.mp4", dpi=41, seconds=1, slices=range(9))
    said = subprocess.run(["ffmpeg", "-i", path, "-f", "null", "-"], capture_output=True, text=True)
    assert said.returncode == 0
    assert "yuv420p" in said.stderr


def test_flights_that_cannot_be_written(tmp_path, spot, monkeypatch):
    result, _ = spot(FLAT)
    with pytest.raises(ValueError, match=r"\.gif or \.mp4"):
        animate(result, tmp_path / "a.avi")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(LookupError, match="ffmpeg"):
        animate(result, tmp_path / "a.mp4")
    with pytest.raises(ValueError, match="a signal"):
        animate(make(np.ones((1, 50)), np.ones(50)), tmp_path / "a.gif")


def test_the_slider_moves_the_slice(spot):
    result, at = spot(FLAT)
    figure = slider(result, figure=Figure((9, 6)))
    large = panels(figure)[-1]
    assert figure.slider.val == at[2]
    assert image_of(large, "saliency").get_array().max() == 2
    figure.slider.set_val(5)
    assert image_of(large, "saliency").get_array().max() == 0
    np.testing.assert_array_equal(
        np.rot90(image_of(large, "image").get_array(), -1)[::-1], result.image[0, 0, ..., 5]
    )
    assert "z = 15.0 mm · slice 6 of 9" in texts(figure)


def test_the_slider_fades_the_map_of_a_picture():
    figure = slider(picture(), figure=Figure((9, 6)))
    (large,) = panels(figure)
    figure.slider.set_val(0)
    assert not np.any(image_of(large, "saliency").get_alpha())
    assert "opacity 0%" in texts(figure)


def test_the_slider_opens_a_window_of_its_own(spot):
    figure = slider(spot(FLAT)[0])
    assert pyplot.fignum_exists(figure.number)
    pyplot.close(figure)


def test_methods_with_other_options_are_other_methods(spot):
    one = spot(FLAT)[0]
    other = replace(one, method=GradCAM(layer="features.norm0"), layer="features.norm0")
    assert len(panels(compare([one, other]))) == 2
    assert "one scale for each row" in texts(compare([one, other]))
