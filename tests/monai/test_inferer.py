"""`SaliencyInferer` as MONAI's evaluator, MONAI Label and Deploy call it."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from ignite.engine import Events
from monai.apps.pathology.inferers import SlidingWindowHoVerNetInferer
from monai.data import (
    DataLoader,
    Dataset,
    MetaTensor,
    PersistentDataset,
    decollate_batch,
    list_data_collate,
)
from monai.engines import SupervisedEvaluator
from monai.inferers import Inferer, SimpleInferer, SlidingWindowInferer
from monai.networks.nets import UNet
from monai.transforms import (
    Compose,
    EnsureTyped,
    FromMetaTensord,
    ResizeWithPadOrCropd,
    ToNumpyd,
    ToTensord,
)
from oblique import write_scan
from torch import Tensor, nn

import medsal
from medsal.monai import SaliencyInferer, Windowed

# MONAI warns when LoadImaged finds no NVIDIA decoder for DICOM.
pytestmark = pytest.mark.filterwarnings("ignore:NvImgCodecPydicomReader")


class Sum(nn.Module):
    """A classifier that wants to be told more than the image."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(1, 3, 3)

    def forward(self, x: Tensor, shift: float, scale: float = 1.0, *, sign: int = 1) -> Tensor:
        return self.conv(x).relu().mean((2, 3, 4)) * scale * sign + shift


@pytest.fixture
def image(preprocessing: Compose, scans: list[Path]) -> MetaTensor:
    return preprocessing({"image": str(scans[0])})["image"][None]


def state(network: nn.Module) -> dict[str, object]:
    """All that a map could have changed."""
    return {
        "modes": [module.training for module in network.modules()],
        "hooks": [len(m._forward_hooks) + len(m._backward_hooks) for m in network.modules()],
        "flags": [p.requires_grad for p in network.parameters()],
        "gradients": [p.grad for p in network.parameters()],
        "tensors": [v.detach().tolist() for v in network.state_dict().values()],
    }


def test_called_as_any_inferer(network: nn.Module, image: MetaTensor) -> None:
    network.eval()
    inferer = SaliencyInferer()
    with torch.no_grad():
        plain = SimpleInferer()(image, network)
        assert torch.equal(inferer(image, network), plain)
        assert torch.equal(inferer(inputs=image, network=network), plain)
    assert len(inferer.results) == 2
    torch.testing.assert_close(
        inferer.results[0].data, medsal.explain(network, image).data, rtol=0, atol=0
    )


@pytest.mark.parametrize("mode", ["no_grad", "inference", "autocast", "train", "grad"])
def test_leaves_no_trace(network: nn.Module, image: MetaTensor, mode: str) -> None:
    contexts = {
        "no_grad": torch.no_grad,
        "inference": torch.inference_mode,
        "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    }
    network.train(mode == "train")

    def run(inferer: Callable[..., Tensor]) -> tuple[Tensor, object, Tensor]:
        torch.manual_seed(3)
        network.load_state_dict(weights)
        with contexts.get(mode, torch.enable_grad)():
            prediction = inferer(image, network)
        return prediction, state(network), torch.rand(3)

    weights = {name: value.clone() for name, value in network.state_dict().items()}
    expected, before, numbers = run(SimpleInferer())
    inferer = SaliencyInferer(target=1)
    prediction, after, drawn = run(inferer)
    assert prediction.dtype == expected.dtype
    assert prediction.requires_grad == expected.requires_grad
    assert torch.equal(prediction, expected)
    assert after == before
    assert torch.equal(drawn, numbers)
    assert inferer.results[0].data.abs().max() > 0


def test_further_arguments(image: MetaTensor) -> None:
    network, inferer = Sum(), SaliencyInferer(target=2)
    plain = network(image, 0.5, 3.0, sign=-1)
    assert torch.equal(inferer(image, network, 0.5, 3.0, sign=-1), plain)
    torch.testing.assert_close(inferer.results[0].output, plain.detach().as_tensor())
    with pytest.raises(TypeError):
        inferer(image, network, 0.5, 3.0, 1)
    network = nn.Sequential(network)
    with pytest.raises(TypeError):
        inferer(image, network, 0.5)


class Any(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(1, 3, 3)

    def forward(self, x: Tensor, *more: Tensor) -> Tensor:
        return self.conv(x).relu().mean((2, 3, 4))


def test_arguments_without_a_name(image: MetaTensor) -> None:
    with pytest.raises(ValueError, match="at most 0 further positional"):
        SaliencyInferer()(image, Any(), image)


@pytest.mark.parametrize("amp", [False, True])
def test_in_the_evaluator(network, loaded, scans, tmp_path: Path, amp: bool) -> None:
    def run(inferer: Callable[..., Tensor]) -> list[Tensor]:
        evaluator = SupervisedEvaluator(
            torch.device("cpu"), loaded(scans), network, inferer=inferer, amp=amp, decollate=False
        )
        outputs = []
        evaluator.add_event_handler(
            Events.ITERATION_COMPLETED, lambda engine: outputs.append(engine.state.output["pred"])
        )
        with warnings.catch_warnings():
            # Without a GPU MONAI's amp says that it does nothing.
            warnings.simplefilter("ignore")
            evaluator.run()
        return outputs

    expected = run(SimpleInferer())
    found = run(SaliencyInferer(output_dir=tmp_path / "out", classes=("none", "big", "small")))
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))
    for path in scans:
        stem = path.name.removesuffix(".nii.gz")
        (written,) = (tmp_path / "out" / stem).glob("*_desc-gradcam_saliency.nii.gz")
        assert any(name in written.name for name in ("none", "big", "small"))
        theirs, ours = nibabel.load(path), nibabel.load(written)
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours.affine, theirs.affine, atol=1e-4)


def test_each_scan_is_read_once(network, loaded, scans, tmp_path, nifti_reads) -> None:
    """Beside what the bundle reads: for the way home, for the check of it, and to write it."""
    inferer = SaliencyInferer(output_dir=tmp_path / "out", target=[0, 2])
    for batch in loaded(scans):
        inferer(batch["image"], network.eval())
    assert nifti_reads == scans


def test_as_monai_label_calls_it(network: nn.Module, preprocessing, scans, tmp_path) -> None:
    """The steps of BasicInferTask.run_inferer of MONAI Label 0.8."""
    inferer = SaliencyInferer(output_dir=tmp_path / "out")
    network.eval()
    data = preprocessing({"image": str(scans[0])})
    inputs = data["image"]
    inputs = inputs if torch.is_tensor(inputs) else torch.from_numpy(inputs)
    inputs = inputs[None]
    inputs = inputs.to(torch.device("cpu"))
    with torch.no_grad():
        outputs = inferer(inputs, network)
    outputs = decollate_batch(outputs) if isinstance(outputs, dict) else outputs[0]
    assert torch.equal(outputs, network(inputs)[0])
    assert list((tmp_path / "out/scan0").glob("*_saliency.nii.gz"))


def test_as_deploy_calls_it(network: nn.Module, preprocessing, scans, tmp_path) -> None:
    """The steps of MonaiBundleInferenceOperator.predict: by keyword, no file behind the image."""
    inferer = SaliencyInferer(inferer=SimpleInferer(), output_dir=tmp_path / "out")
    network.eval()
    data = preprocessing({"image": str(scans[0])})["image"].unsqueeze(0)
    data.meta["filename_or_obj"] = str(tmp_path / "gone/series 1.nii.gz")
    with torch.no_grad():
        outputs = inferer(inputs=data, network=network)
    assert torch.equal(outputs, network(data))
    (written,) = (tmp_path / "out").rglob("*_saliency.nii.gz")
    theirs, ours = nibabel.load(scans[0]), nibabel.load(written)
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours.affine, theirs.affine, atol=1e-4)


def test_a_batch_has_a_map_for_each(network, preprocessing, loaded, scans, tmp_path: Path) -> None:
    crop = Compose([*preprocessing.transforms, ResizeWithPadOrCropd("image", (14, 14, 14))])
    (batch,) = loaded(scans, 2, crop)
    inferer = SaliencyInferer(output_dir=tmp_path / "out", target=[0, 2])
    network.eval()
    inferer(batch["image"], network)
    for i, path in enumerate(scans):
        found = sorted((tmp_path / f"out/scan{i}").glob("*_saliency.nii.gz"))
        assert [path.name for path in found] == [
            f"scan{i}_label-{label}_desc-gradcam_saliency.nii.gz" for label in (0, 2)
        ]
        np.testing.assert_allclose(
            nibabel.load(found[0]).affine, nibabel.load(path).affine, atol=1e-4
        )


def test_scans_of_one_name_stay_apart(network, loaded, tmp_path: Path) -> None:
    paths = [write_scan(tmp_path / f"in/case {i}/image.nii.gz", 0.1 * i) for i in range(3)]
    network.eval()

    def run(paths: list[Path]) -> list[str]:
        inferer = SaliencyInferer(output_dir=tmp_path / "out", target=1)
        for batch in loaded(paths):
            inferer(batch["image"], network)
        return sorted(path.name for path in (tmp_path / "out").iterdir())

    names = ["case-1_image", "case-2_image", "image"]
    assert run(paths) == names
    # Again, in another order: nothing changes hands.
    assert run(paths[::-1]) == names
    for i, folder in enumerate(("image", "case-1_image", "case-2_image")):
        (sidecar,) = (tmp_path / "out" / folder).glob("*_saliency.json")
        known = json.loads(sidecar.read_text())["Grid"]["Affine"]
        np.testing.assert_allclose(known, nibabel.load(paths[i]).affine, atol=1e-4)


def test_without_a_place(network: nn.Module, image: MetaTensor, tmp_path: Path) -> None:
    network.eval()
    kept = SaliencyInferer()
    kept(image.as_tensor(), network)
    assert kept.results[0].affine is None
    writing = SaliencyInferer(output_dir=tmp_path / "out")
    with pytest.raises(ValueError, match="ToTensord"):
        writing(image.as_tensor(), network)
    nameless = image.clone()
    del nameless.meta["filename_or_obj"]
    with pytest.raises(ValueError, match="which file it came from"):
        writing(nameless, network)
    assert not (tmp_path / "out").exists()


def test_a_failing_map_loses_no_prediction(network, loaded, scans, tmp_path: Path) -> None:
    network.eval()
    (batch,) = loaded(scans[:1])
    with pytest.raises(LookupError, match="7"):
        SaliencyInferer(target=7)(batch["image"], network)
    for options in ({"target": 7}, {"layer": "nowhere"}, {"output_dir": scans[0] / "file"}):
        inferer = SaliencyInferer(on_error="warn", **options)
        with pytest.warns(UserWarning, match="no saliency map was made"):
            prediction = inferer(batch["image"], network)
        assert torch.equal(prediction, network(batch["image"]))
    with pytest.warns(UserWarning, match=r"nn\.Module"):
        SaliencyInferer(on_error="warn")(batch["image"], lambda x: network(x))
    # What the wrapped inferer raises is not a map's failure.
    with pytest.raises(ValueError, match="5D input"):
        SaliencyInferer(on_error="warn")(batch["image"][:, :, 0], network)


def test_monais_own_arguments(network: nn.Module, image: MetaTensor) -> None:
    network.eval()
    for theirs, ours in (("GradCAM", "gradcam"), ("GradCAMpp", "gradcam++")):
        inferer = SaliencyInferer(
            cam_name=theirs, target_layers="features.denseblock1", class_idx=2
        )
        inferer(image, network)
        expected = medsal.explain(network, image, 2, ours, "features.denseblock1")
        torch.testing.assert_close(inferer.results[0].data, expected.data, rtol=0, atol=0)
    with pytest.raises(ValueError, match="both"):
        SaliencyInferer(method="gradient", cam_name="GradCAM")
    with pytest.raises(ValueError, match="both"):
        SaliencyInferer(layer="a", target_layers="b")
    with pytest.raises(ValueError, match="cam_name"):
        SaliencyInferer(cam_name="LayerCAM")


def test_bad_arguments_are_told_at_once() -> None:
    with pytest.raises(LookupError, match="'gradcam'"):
        SaliencyInferer(method="gradcamm")
    with pytest.raises(TypeError, match="no option 'smaples'"):
        SaliencyInferer(method="smoothgrad", smaples=3)
    with pytest.raises(LookupError, match=r"'none', 'tumour'.* got 'tumor'"):
        SaliencyInferer(target=["tumor", 0], classes=("none", "tumour"))
    with pytest.raises(ValueError, match="on_error"):
        SaliencyInferer(on_error="ignore")
    with pytest.raises(TypeError, match=r"inferer|parameters"):
        SaliencyInferer("gradcam")


@pytest.fixture
def unet() -> nn.Module:
    return UNet(3, 1, 2, channels=(4, 8), strides=(2,), num_res_units=1).eval()


def test_windows_as_the_inferer_slides_them(unet: nn.Module, image: MetaTensor) -> None:
    sliding = SlidingWindowInferer([8, 8, 8], 2, 0.5, "gaussian")
    inferer = SaliencyInferer(sliding, "hirescam", target=1, layer="model.0")
    with torch.no_grad():
        assert torch.equal(inferer(image, unet), sliding(image, unet))
    (found,) = inferer.results
    assert found.method == Windowed(medsal.HiResCAM(layer="model.0"), (8, 8, 8), 2, 0.5, "gaussian")
    expected = medsal.explain(unet, image, 1, found.method)
    torch.testing.assert_close(found.data, expected.data)
    torch.testing.assert_close(found.output, expected.output)


def test_a_window_as_large_as_the_image_is_no_window(unet: nn.Module, image: MetaTensor) -> None:
    for roi in (tuple(image.shape[2:]), (-1, -1, -1)):
        inferer = SaliencyInferer(SlidingWindowInferer(roi), "gradient", target=1)
        inferer(image, unet)
        assert inferer.results[0].method == medsal.Gradient()


def test_windows_are_written(unet: nn.Module, image: MetaTensor, scans, tmp_path: Path) -> None:
    inferer = SaliencyInferer(SlidingWindowInferer((8, 8, 8)), target=1, output_dir=tmp_path)
    inferer(image, unet)
    (written,) = (tmp_path / "scan0").glob("*_desc-windowedgradcam_saliency.nii.gz")
    assert nibabel.load(written).shape == nibabel.load(scans[0]).shape
    sidecar = json.loads(Path(str(written).replace(".nii.gz", ".json")).read_text())
    assert "roi_size=(8, 8, 8)" in sidecar["Method"]["Definition"]


@pytest.mark.parametrize(
    ("lose", "who"),
    [
        (ToTensord("image", track_meta=False), "ToTensord, step 6"),
        (EnsureTyped("image", track_meta=False), "EnsureTyped, step 6"),
        (ToNumpyd("image"), "ToNumpyd, step 6"),
        (FromMetaTensord("image"), "FromMetaTensord, step 6"),
        (None, "the cache of PersistentDataset"),
    ],
)
def test_who_lost_the_place_is_told(network, preprocessing, scans, tmp_path, lose, who) -> None:
    """Before a map is made, and without a file: by the transform that is to be moved."""
    network.eval()
    data = [{"image": str(path)} for path in scans]
    if lose is None:
        dataset = PersistentDataset(data, preprocessing, cache_dir=tmp_path / "cache")
        assert all(isinstance(dataset[i]["image"], MetaTensor) for i in range(2))
        if isinstance(dataset[0]["image"], MetaTensor):
            pytest.skip("what is read from the cache of MONAI 1.5 has kept it")
    else:
        dataset = Dataset(data, Compose([*preprocessing.transforms, lose]))
    words = rf"did not bring its place along: {who}.* track_meta=True"
    for on_error, told in (
        ("raise", pytest.raises(ValueError, match=words)),
        ("warn", pytest.warns(UserWarning, match=words)),
    ):
        inferer = SaliencyInferer(output_dir=tmp_path / "out", on_error=on_error)
        evaluator = SupervisedEvaluator(
            torch.device("cpu"), DataLoader(dataset, batch_size=1), network, inferer=inferer
        )
        with told:
            evaluator.run()
    assert not (tmp_path / "out").exists()


def test_without_an_engine_the_usual_losers_are_named(
    network, preprocessing, loaded, scans, tmp_path
):
    plain = Compose([*preprocessing.transforms, ToTensord("image", track_meta=False)])
    (batch,) = loaded(scans[:1], 1, plain)
    with pytest.raises(ValueError, match=r"place along .* ToTensord"):
        SaliencyInferer(output_dir=tmp_path / "out")(batch["image"], network.eval())


def test_patches_of_a_slide_are_named_by_their_place(tmp_path: Path) -> None:
    """As MONAI's datasets of whole slides hand them over."""
    net = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    meta = [
        {"path": "/in/slide 1.tif", "location": np.array([152, 248 + 8 * i]), "level": i}
        for i in range(2)
    ]
    patches = [{"image": MetaTensor(torch.rand(3, 12, 16), meta=each)} for each in meta]
    batch = list_data_collate(patches)["image"]
    SaliencyInferer(target=1, output_dir=tmp_path / "out")(batch, net)
    names = ["slide 1_x-248_y-152", "slide 1_x-256_y-152_level-1"]
    found = sorted((tmp_path / "out").rglob("*.nii.gz"))
    assert [path.name for path in found] == [
        f"{name}_label-1_desc-gradcam_saliency.nii.gz" for name in names
    ]
    expected = medsal.explain(net, batch.as_tensor(), 1).data[1, 0]
    np.testing.assert_allclose(nibabel.load(found[1]).get_fdata()[..., 0], expected, atol=1e-6)


class Detector(Inferer):
    """Images of different sizes in a list, and boxes of each, as a detector's inferer gives."""

    def __call__(self, inputs: list[Tensor], network: nn.Module) -> list[dict[str, Tensor]]:
        return [{"label_scores": network(each[None])["cls"].amax((2, 3, 4))} for each in inputs]


class Heads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(1, 2, 3)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"cls": self.conv(x).relu()}


def test_a_list_of_images(preprocessing: Compose, scans: list[Path], tmp_path: Path) -> None:
    images = [preprocessing({"image": str(path)})["image"] for path in scans]
    images[1] = images[1][:, :-2]
    network, score = Heads(), lambda output: output["cls"][:, 1].flatten(1).amax(1)
    inferer = SaliencyInferer(Detector(), target=score, layer="conv", output_dir=tmp_path)
    found = inferer(images, network)
    assert [each["label_scores"].shape for each in found] == [(1, 2)] * 2
    for path in scans:
        (written,) = tmp_path.glob(f"{path.name.removesuffix('.nii.gz')}/*_saliency.nii.gz")
        assert nibabel.load(written).shape == nibabel.load(path).shape
    with pytest.raises(TypeError, match="keys \\['cls'\\]; give a callable"):
        SaliencyInferer(Detector(), "gradient")(images, network)


@pytest.mark.filterwarnings("ignore:Using a non-tuple sequence")
def test_other_windows_are_asked_for() -> None:
    """An inferer that shows the network larger windows than it stitches is not guessed."""
    net, image = nn.Conv2d(1, 2, 3, padding=1), torch.rand(1, 1, 20, 20)
    inner = SlidingWindowHoVerNetInferer(8, overlap=0.5)
    with pytest.raises(ValueError, match=r"HoVerNetInferer.* say which"):
        SaliencyInferer(inner, "gradient", target=1)(image, net)
    named = SaliencyInferer(inner, Windowed("gradient", 10), target=1)
    prediction = named(image, net)
    assert named.results[0].method == Windowed("gradient", 10)
    torch.testing.assert_close(named.results[0].output, prediction.detach())
