import pickle
import subprocess
import sys
from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pytest
import torch
from handmade import image_of, make, panels, texts
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from medsal.origin import Origin
from medsal.view import ortho


def pixels(figure):
    figure.set_dpi(60)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].astype(int)


def brightest(axes):
    """Data coordinates of the centre of the brightest pixel of the scan in some axes."""
    image = image_of(axes, "image")
    array = np.asarray(image.get_array())
    row, column = np.unravel_index(np.argmax(array), array.shape)
    left, right, bottom, top = image.get_extent()
    rows, columns = array.shape
    x = left + (column + 0.5) * (right - left) / columns
    return x, top + (row + 0.5) * (bottom - top) / rows


@pytest.mark.parametrize("radiological", [True, False])
def test_a_bright_voxel_lies_at_its_ras_place_in_every_panel(affine, spot, radiological):
    result, at = spot(affine)
    place = affine[:3] @ [*at, 1]
    figure = ortho(result, radiological=radiological)
    axial, coronal, sagittal = panels(figure)
    for axes, (across, vertical) in ((axial, (0, 1)), (coronal, (0, 2)), (sagittal, (1, 2))):
        np.testing.assert_allclose(brightest(axes), place[[across, vertical]], atol=1e-9)
        assert axes.get_xlim()[0] == image_of(axes, "image").get_extent()[0]
        assert not axes.yaxis.get_inverted()
    assert axial.xaxis.get_inverted() == radiological
    assert coronal.xaxis.get_inverted() == radiological
    assert sagittal.xaxis.get_inverted()  # the nose points left


@pytest.mark.parametrize("radiological", [True, False])
def test_the_rendered_peak_is_where_the_patient_says(affine, spot, radiological):
    """A map voxel towards the patient's right, front and top is drawn there, as seen on paper."""
    result, at = spot(affine)
    figure = ortho(result, radiological=radiological, crosshair=False, opacity=1.0)
    shown = pixels(figure)
    centre = affine[:3] @ [*(np.array(result.data.shape[2:]) - 1) / 2, 1]
    frame = np.linalg.qr(affine[:3, :3])[0]  # voxel axes; signs and order are set below
    order = [int(np.argmax(np.abs(frame[k]))) for k in range(3)]
    axes3 = [frame[:, order[k]] * np.sign(frame[k, order[k]]) for k in range(3)]
    right, front, up = (np.sign(axis @ (affine[:3] @ [*at, 1] - centre)) for axis in axes3)
    hand = -right if radiological else right
    for axes, (x, y) in zip(panels(figure), ((hand, front), (hand, up), (-front, up)), strict=True):
        box = axes.get_window_extent()
        rows = slice(int(shown.shape[0] - box.y1) + 2, int(shown.shape[0] - box.y0) - 2)
        part = shown[rows, int(box.x0) + 2 : int(box.x1) - 2]
        coloured = part.max(-1) - part.min(-1) > 60  # yellow on grey
        assert coloured.any()
        row, column = (np.mean(index) for index in np.nonzero(coloured))
        assert np.sign(column - coloured.shape[1] / 2) == x
        assert np.sign(coloured.shape[0] / 2 - row) == y


def test_scan_and_map_are_shown_voxel_by_voxel(affine, spot):
    result, at = spot(affine)
    scan, saliency = result.image[0, 0].numpy(), result.data[0, 0].numpy()
    normals = [
        int(np.argmax(np.abs((affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0))[k])))
        for k in (2, 1, 0)
    ]
    for axes, normal in zip(panels(ortho(result)), normals, strict=True):
        for label, source in (("image", scan), ("saliency", saliency)):
            artist = image_of(axes, label)
            plane = np.take(source, at[normal], axis=normal)
            turned = [np.rot90(p, k) for p in (plane, plane.T) for k in range(4)]
            assert any(np.array_equal(artist.get_array(), each) for each in turned)
            assert artist.get_interpolation() == "nearest"


def test_physical_aspect_and_one_scale_for_all_panels(affine, spot):
    figure = ortho(spot(affine)[0])
    figure.draw_without_rendering()
    scales = []
    for axes in panels(figure):
        box, (x0, x1), (y0, y1) = axes.get_window_extent(), axes.get_xlim(), axes.get_ylim()
        scales += [box.width / abs(x1 - x0), box.height / abs(y1 - y0)]
    np.testing.assert_allclose(scales, scales[0], rtol=1e-6)


def test_what_is_written(spot):
    affine = np.diag([2.0, 2.0, 3.0, 1.0])
    result, _ = spot(affine, cells=(3, 3, 3), notes=("the layer's grid is small",))
    said = texts(ortho(result))
    for words in (
        "sub-01_T1w.nii.gz",
        "radiological: image left = patient right",
        "GradCAM of class 1 · DenseNet121",
        "layer features.norm5",
        "cells of 7.33 \N{MULTIPLICATION SIGN} 9.33 \N{MULTIPLICATION SIGN} 9 mm",
        "z = 6.0 mm · slice 3 of 9",
        "Peak 2 at RAS (6.0, 18.0, 6.0) mm",
        "percentiles 0.5 and 99.5",
        "not resampled",
        "Note: the layer's grid is small",
        "Research use: not a diagnosis",
        "raw range",
        "min 0",
        "max 2",
    ):
        assert words in said
    assert "oblique" not in said
    assert "neurological: image left = patient left" in texts(ortho(result, radiological=False))
    assert "another title" in texts(ortho(result, title="another title"))


def test_obliquity_is_stated(spot):
    turned = np.eye(4)
    c, s = np.cos(np.radians(7.7)), np.sin(np.radians(7.7))
    turned[:2, :2] = [[c, -s], [s, c]]
    assert "oblique by 7.7 degrees" in texts(ortho(spot(turned)[0]))


def test_the_networks_grid_is_not_called_the_scans(spot):
    result, _ = spot(np.diag([2.0, 2.0, 3.0, 1.0]))
    assert "scan's own voxel planes" in texts(ortho(result))
    origin = Origin(path="a.nii", affine=torch.eye(4).double(), shape=(22, 28, 27))
    said = texts(ortho(replace(result, origins=(origin,))))
    assert "scan's own" not in said
    assert "network's input" in said


def test_slice_numbers_count_along_the_files_own_axis(spot):
    assert "slice 3 of 9" in texts(ortho(spot(np.diag([1.0, 1.0, -1.0, 1.0]))[0]))


def test_point_and_crosshair(spot):
    affine = np.diag([2.0, 2.0, 3.0, 1.0])
    result, _ = spot(affine)
    figure = ortho(result, point=(4, 6, 9))
    assert "shown: RAS (4.0, 6.0, 9.0) mm, value 0" in texts(figure)
    for axes, spots in zip(panels(figure), ((4, 6), (4, 9), (6, 9)), strict=True):
        lines = [line for line in axes.lines if line.get_label() == "crosshair"]
        assert {tuple(line.get_xdata()) for line in lines if len(set(line.get_xdata())) == 1} == {
            (spots[0], spots[0])
        }
        assert {tuple(line.get_ydata()) for line in lines if len(set(line.get_ydata())) == 1} == {
            (spots[1], spots[1])
        }
    assert not any(axes.lines for axes in panels(ortho(result, crosshair=False)))
    assert ortho(result, point=torch.tensor([4.0, 6.0, 9.0])).axes


def test_signed_maps_diverge_about_zero(spot):
    result, _ = spot(np.eye(4))
    signed = result.data.clone()
    signed[..., 0, 0, 0] = -5.0
    figure = ortho(replace(result, data=signed))
    artist = image_of(panels(figure)[0], "saliency")
    assert (artist.norm.vmin, artist.norm.vmax) == (-5.0, 5.0)
    assert artist.get_cmap().name != image_of(panels(ortho(result))[0], "saliency").get_cmap().name
    # the peak is the largest magnitude
    assert "Peak \N{MINUS SIGN}5 at RAS (0.0, 0.0, 0.0) mm" in texts(figure)


def test_colours_grow_solid_with_the_saliency(spot):
    result, _ = spot(np.eye(4))
    ramp = torch.linspace(0, 1, result.data.numel()).reshape(result.data.shape)
    artist = image_of(panels(ortho(replace(result, data=ramp)))[0], "saliency")
    values, alpha = np.ravel(artist.get_array()), np.ravel(artist.get_alpha())
    assert np.all(np.diff(alpha[np.argsort(values)]) > 0)
    cut = image_of(panels(ortho(replace(result, data=ramp), threshold=0.9))[0], "saliency")
    np.testing.assert_array_equal(np.ravel(cut.get_alpha()) > 0, np.ravel(cut.get_array()) >= 0.9)


def test_scale_is_shared_and_clipping_is_said(spot):
    result, _ = spot(np.eye(4))
    wide, tight = ortho(result, scale=8), ortho(result, scale=1.5)
    assert image_of(panels(wide)[0], "saliency").norm.vmax == 8
    assert "clipped" not in texts(wide)
    assert "clipped at 1.5" in texts(tight)
    assert "max 2" in texts(tight)


def test_small_values_read_well(spot):
    result, _ = spot(np.eye(4))
    said = texts(ortho(replace(result, data=result.data * 2.1e-5)))
    assert "saliency [10⁻⁵]" in said
    assert "max 4.2\N{MULTIPLICATION SIGN}10⁻⁵" in said


@pytest.mark.parametrize("value", [0.0, -1e-9])
def test_an_empty_map_says_so(spot, value):
    result, _ = spot(np.eye(4))
    figure = ortho(replace(result, data=torch.full_like(result.data, value)))
    assert "empty map: no positive evidence" in texts(figure).lower()
    assert all(len(axes.images) == 1 for axes in panels(figure))


def test_unseen_voxels_are_hatched_and_never_coloured(affine, spot):
    result, at = spot(affine)
    seen = torch.ones(1, 1, *result.data.shape[2:], dtype=torch.bool)
    seen[..., : at[0], :, :] = False
    data = torch.where(seen, result.data + 0.5, 1e6)  # what lies outside must not count
    figure = ortho(replace(result, data=data, seen=seen))
    assert "outside what the network saw" in texts(figure)
    assert "max 2.5" in texts(figure)
    hatched = [axes for axes in panels(figure) if any(p.get_hatch() for p in axes.patches)]
    assert len(hatched) == 2  # the third plane lies where all was seen
    for axes in hatched:
        veiled = image_of(axes, "unseen").get_array()[..., 3] > 0
        assert veiled.any()
        np.testing.assert_array_equal(image_of(axes, "saliency").get_alpha() == 0, veiled)
    assert "outside" not in texts(ortho(replace(result, seen=torch.ones_like(seen))))


def test_values_that_are_not_finite_count_as_unseen(spot):
    result, _ = spot(np.eye(4))
    data = result.data.clone()
    data[..., 0, :, :] = float("nan")
    assert "outside what the network saw" in texts(ortho(replace(result, data=data)))


def photo():
    """Rows x columns x 3, another colour in each corner, wider than high."""
    rows, columns = 6, 10
    picture = np.full((rows, columns, 3), 90, dtype=np.uint8)
    picture[:2, :2] = (255, 0, 0)
    picture[:2, -2:] = (0, 255, 0)
    picture[-2:, :2] = (0, 0, 255)
    return picture


@pytest.mark.parametrize("colours", [1, 3])
@pytest.mark.parametrize("way", ["torch", "monai"])
def test_pictures_are_upright(colours, way):
    picture = photo()[..., :colours]
    if way == "torch":  # (c, rows, columns), no affine
        image, affine = np.moveaxis(picture, -1, 0), None
    else:  # PILReader: (c, x, y), the identity
        image, affine = np.moveaxis(picture.transpose(1, 0, 2), -1, 0), np.eye(4)
    data = np.zeros(image.shape[1:])
    data[(1, 8) if way == "torch" else (8, 1)] = 1.0
    figure = ortho(make(image, data, affine))
    (axes,) = panels(figure)
    shown = np.asarray(image_of(axes, "image").get_array())
    expected = picture[..., 0] if colours == 1 else picture / 255
    np.testing.assert_allclose(shown, expected)
    assert np.argwhere(image_of(axes, "saliency").get_array()).tolist() == [[1, 8]]
    assert axes.yaxis.get_inverted()
    assert not axes.xaxis.get_inverted()
    assert "10 \N{MULTIPLICATION SIGN} 6 pixels" in texts(figure)
    assert "radiological" not in texts(figure)


def test_the_rendered_picture_is_upright():
    figure = ortho(make(np.moveaxis(photo(), -1, 0), np.zeros((6, 10))), crosshair=False)
    shown = pixels(figure)
    box = panels(figure)[0].get_window_extent()
    top, bottom = int(shown.shape[0] - box.y1) + 8, int(shown.shape[0] - box.y0) - 8
    left, right = int(box.x0) + 8, int(box.x1) - 8
    assert shown[top, left].tolist() == [255, 0, 0]
    assert shown[top, right].tolist() == [0, 255, 0]
    assert shown[bottom, left].tolist() == [0, 0, 255]


def test_rows_first_overrules():
    result = make(np.moveaxis(photo(), -1, 0), np.zeros((6, 10)))
    shown = image_of(panels(ortho(result, rows_first=False))[0], "image").get_array()
    np.testing.assert_allclose(shown, photo().transpose(1, 0, 2) / 255)


@pytest.mark.parametrize("original", [None, torch.eye(4).double()], ids=["none", "identity"])
def test_a_resized_picture_is_still_a_picture(original):
    affine = torch.diag(torch.tensor([2.0, 2.0, 1.0, 1.0])).double()
    origin = Origin(path="a.png", affine=original, shape=(20, 12))
    image = np.random.default_rng(0).random((1, 10, 6))
    result = make(image, np.zeros((10, 6)), affine, origins=(origin,))
    assert "PICTURE" in texts(ortho(result))


@pytest.mark.filterwarnings("ignore:NvImgCodec")
def test_monais_reader_and_a_network(tmp_path):
    """A photo through MONAI's own reader and transforms, explained, is upright."""
    from monai.transforms import Compose, EnsureType, LoadImage, Resize
    from PIL import Image

    import medsal

    big = photo().repeat(4, axis=0).repeat(4, axis=1)
    Image.fromarray(big).save(tmp_path / "a.png")
    load = LoadImage(image_only=True, ensure_channel_first=True)
    resize = Resize((10, 6), mode="nearest")
    image = Compose([load, EnsureType(), resize])(tmp_path / "a.png")[None].float()
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(240, 2),
    )
    figure = medsal.explain(net, image, target=1, method="gradient").plot()
    shown = np.asarray(image_of(panels(figure)[0], "image").get_array())
    np.testing.assert_allclose(shown, photo() / 255)
    assert "a.png" in texts(figure)


@pytest.mark.parametrize("normal", range(3))
def test_2d_scans_show_their_plane(normal):
    axes = [axis for axis in range(3) if axis != normal]
    affine = np.eye(4)
    affine[:3, :3] = 2 * np.eye(3)[:, [*axes, normal]]
    affine[:3, 3] = (-3, 4, 5)
    data = np.zeros((7, 9))
    data[5, 2] = 1.0
    figure = ortho(make(data[None], data, affine))
    (panel,) = panels(figure)
    np.testing.assert_allclose(brightest(panel), (affine @ [5, 2, 0, 1])[axes])
    assert ("SAGITTAL", "CORONAL", "AXIAL")[normal] in texts(figure)


def test_without_an_affine_nothing_is_claimed(spot):
    result, at = spot(None)
    figure = ortho(result)
    said = texts(figure)
    assert "voxel axes, orientation unknown" in said
    assert f"voxel ({', '.join(map(str, at))})" in said
    assert "mm" not in said
    assert not {"R", "L", "A", "P", "S", "I"} & set(said.split("\n"))
    np.testing.assert_allclose(brightest(panels(figure)[0]), at[:2])


@pytest.mark.parametrize("channels", [1, 3])
def test_signals(channels):
    signal = np.cumsum(np.random.default_rng(0).normal(size=(channels, 200)), axis=1)
    data = np.exp(-(((np.arange(200) - 130) / 9) ** 2))
    figure = ortho(make(signal, data))
    axes = figure.axes[0]
    assert [line.get_label() for line in axes.lines] == [
        *(f"channel {k}" for k in range(channels)),
        "crosshair",
    ]
    np.testing.assert_allclose(image_of(axes, "saliency").get_array(), data[None], atol=1e-6)
    assert "Peak 1 at sample 130" in texts(figure)


@pytest.mark.parametrize(
    ("window", "limits"),
    [("lung", (-1350, 150)), ((40, 80), (0, 80)), ([-600.0, 1500.0], (-1350, 150))],
)
def test_windows(window, limits):
    image = np.random.default_rng(0).uniform(-1000, 1000, (1, 8, 9, 10))
    figure = ortho(make(image, np.ones((8, 9, 10)), np.eye(4)), window=window)
    artist = image_of(panels(figure)[0], "image")
    assert (artist.norm.vmin, artist.norm.vmax) == limits
    assert "level" in texts(figure)


def test_channels_of_a_scan(spot):
    result, _ = spot(np.eye(4))
    both = torch.cat([result.image, result.image + 7], dim=1)
    figure = ortho(replace(result, image=both), channel=1)
    assert image_of(panels(figure)[0], "image").get_array().min() >= 7
    assert "Channel 1 of 2" in texts(figure) or "channel 1 of 2" in texts(figure)


def test_several_targets(spot):
    from medsal.targets import ClassScore

    result, _ = spot(np.eye(4))
    both = torch.cat([result.data, result.data * 3], dim=1)
    result = replace(result, data=both, target=(ClassScore(0), ClassScore(1)))
    assert "max 6" in texts(ortho(result, target=1))
    assert "of predicted class 0" in texts(ortho(result))
    assert "of class 1 (ring)" in texts(ortho(result, target=1, classes=["none", "ring"]))


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"point": (99, 0, 0)}, ValueError, "x -0.5 to 10.5 mm"),
        ({"target": 1}, LookupError, r"1 target\(s\)"),
        ({"channel": 3}, LookupError, r"1 channel\(s\)"),
        ({"window": "lungs"}, LookupError, "'lung'"),
        ({"window": "lung"}, ValueError, "result.home"),
        ({"window": (40, -1)}, ValueError, "width > 0"),
        ({"window": (40.0,)}, ValueError, "level, width"),
        ({"percentile": (99, 1)}, ValueError, "percentiles"),
        ({"scale": 0}, ValueError, "positive scale"),
        ({"threshold": 2.5}, ValueError, "threshold"),
        ({"opacity": 1.5}, ValueError, "opacity"),
        ({"cmap": "infernal"}, LookupError, "'inferno'"),
    ],
)
def test_errors(spot, options, error, words):
    result, _ = spot(np.eye(4))
    result = replace(result, image=result.image + 500)
    with pytest.raises(error, match=words):
        ortho(result, **options)


def test_batches_are_plotted_one_by_one(spot):
    result, _ = spot(np.eye(4))
    batch = replace(
        result,
        data=result.data.repeat(2, 1, 1, 1, 1),
        image=result.image.repeat(2, 1, 1, 1, 1),
        origins=result.origins * 2,
    )
    with pytest.raises(ValueError, match=r"result\[i\]"):
        ortho(batch)


def test_the_callers_figure_subfigure_and_axes(spot):
    result, _ = spot(np.eye(4))
    figure = Figure((14, 10))
    upper, lower = figure.subfigures(2, 1)
    assert ortho(result, figure=upper) is figure
    assert ortho(result, figure=lower) is figure
    assert len(panels(figure)) == 6
    figure = Figure((9, 3))
    assert ortho(result, axes=figure.subplots(1, 3)) is figure
    assert "raw range 0 to 2" in texts(figure)
    assert "Axial" in texts(figure)
    with pytest.raises(ValueError, match="3 matplotlib Axes"):
        ortho(result, axes=Figure().subplots())


@pytest.mark.parametrize("size", [None, (4, 3), (16, 6)])
def test_no_text_meets_or_leaves_the_page(spot, size):
    """Also with long names and many notes, in any figure."""
    result, _ = spot(
        np.diag([1.0, 1.0, 3.0, 1.0]),
        origins=(Origin(path="/x/" + "sub-01_acq-highres_" * 12 + "$日本$.nii.gz"),),
        layer=("features.denseblock4.denselayer16.layers.norm2",) * 3,
        notes=("a note that has much to say and says it at length; " * 6, "x" * 300) * 3,
        cells=(2, 3, 4),
    )
    figure = ortho(result, figure=None if size is None else Figure(size), scale=1.0, threshold=0.1)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    page = figure.bbox
    found = figure.findobj(lambda a: hasattr(a, "get_text") and a.get_text().strip() != "")
    boxes = [(text.get_text(), text.get_window_extent(renderer).padded(-1)) for text in found]
    boxes = [(said, box) for said, box in boxes if box.x0 < box.x1]  # ticks that are not drawn
    for said, box in boxes:
        assert page.x0 <= box.x0, said
        assert box.x1 <= page.x1, said
        assert page.y0 <= box.y0, said
        assert box.y1 <= page.y1, said
    for k, (said, box) in enumerate(boxes):
        for other, around in boxes[k + 1 :]:
            assert not box.overlaps(around), (said, other)


def test_matplotlibs_state_is_left_alone(spot):
    result, _ = spot(np.eye(4))
    before = dict(mpl.rcParams)
    image, data = result.image.clone(), result.data.clone()
    figure = ortho(result)
    pixels(figure)
    assert dict(mpl.rcParams) == before
    assert torch.equal(result.image, image)
    assert torch.equal(result.data, data)
    code = (
        "import sys, medsal, medsal.view; assert 'matplotlib' not in sys.modules;"
        "import medsal.view.sheet; assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_users_settings_do_not_turn_the_scan(spot):
    result, _ = spot(np.eye(4))
    plain = pixels(ortho(result))
    settings = {"image.origin": "lower", "image.interpolation": "bilinear", "axes.grid": True}
    with mpl.rc_context({**settings, "figure.constrained_layout.use": True}):
        np.testing.assert_array_equal(pixels(ortho(result)), plain)
        pixels(ortho(result, figure=Figure((12, 5), layout="constrained")))


def test_a_figure_shows_itself_and_can_be_pickled(spot):
    figure = spot(np.eye(4))[0].plot()
    assert isinstance(figure, Figure)
    assert figure._repr_png_().startswith(b"\x89PNG")
    assert len(pickle.loads(pickle.dumps(figure)).axes) == len(figure.axes)


def test_light_ground(spot):
    result, _ = spot(np.eye(4))
    assert pixels(ortho(result, dark=False))[2, 2].tolist() == [255, 255, 255]
    assert pixels(ortho(result))[2, 2].tolist() == [0, 0, 0]
