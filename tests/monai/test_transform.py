"""`Saliencyd` in a pipeline, and the handler in an engine: maps that go the image's ways."""

import nibabel
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.engines import SupervisedEvaluator
from monai.inferers import SlidingWindowInferer
from monai.networks.nets import UNet
from monai.transforms import (
    Compose,
    CropForegroundd,
    Invertd,
    Resized,
    SaveImaged,
    Spacingd,
)
from torch import nn

import medsal
from medsal.monai import Saliencyd, SaliencyHandler, Windowed

pytestmark = pytest.mark.filterwarnings("ignore:NvImgCodecPydicomReader")


class Itself(nn.Module):
    """A segmentation whose logit is the image: `input_x_gradient` of it is the image again."""

    def forward(self, x):
        return x * 1.0


def everything(image):
    return image[:, 0].flatten(1).sum(1)


def test_inverted_it_lies_on_the_scan(preprocessing, scans) -> None:
    """The image as its own map comes home to the scan."""
    steps = Compose([*preprocessing.transforms, CropForegroundd("image", "image")])
    make = Saliencyd("image", Itself(), "input_x_gradient", target=everything)
    data = make(steps({"image": str(scans[0])}))
    found = data["image_saliency"]
    assert isinstance(found, MetaTensor)
    torch.testing.assert_close(found.as_tensor(), data["image"].as_tensor())
    assert torch.equal(found.affine, data["image"].affine)
    assert len(found.applied_operations) == len(data["image"].applied_operations)
    home = Invertd("image_saliency", steps, orig_keys="image", nearest_interp=False)(data)
    scan = nibabel.load(scans[0])
    assert home["image_saliency"].shape[1:] == scan.shape
    np.testing.assert_allclose(home["image_saliency"].affine, scan.affine, atol=1e-4)
    truth = scan.get_fdata()
    inside = home["image_saliency"][0].numpy() != 0
    assert np.corrcoef(truth[inside], home["image_saliency"][0].numpy()[inside])[0, 1] > 0.98


def test_in_a_compose(network, preprocessing, scans, tmp_path) -> None:
    network.eval()
    save = SaveImaged(
        "image_saliency",
        output_dir=tmp_path,
        output_postfix="saliency",
        print_log=False,
        resample=False,
    )
    steps = Compose([preprocessing, Saliencyd("image", network, "gradcam", [0, 2]), save])
    data = steps({"image": str(scans[0])})
    expected = medsal.explain(network, data["image"][None], [0, 2])
    torch.testing.assert_close(data["image_saliency"].as_tensor(), expected.data[0])
    assert (tmp_path / "scan0/scan0_saliency.nii.gz").exists()


def test_lazy_transforms_are_applied_before(network, scans, preprocessing) -> None:
    lazy = Compose(
        [
            *preprocessing.transforms[:-1],
            Resized("image", (14, 14, 14)),
            Saliencyd("image", network),
        ],
        lazy=True,
    )
    assert lazy({"image": str(scans[0])})["image_saliency"].shape == (1, 14, 14, 14)
    image = Compose(preprocessing.transforms[:2])({"image": str(scans[0])})
    pending = Spacingd("image", (4.0, 4.0, 4.0), lazy=True)(image)
    with pytest.raises(ValueError, match="ApplyPendingd"):
        Saliencyd("image", network)(pending)


def test_plain_tensors_and_other_types(network) -> None:
    network.eval()
    image = torch.rand(1, 16, 16, 16, dtype=torch.float64)
    found = Saliencyd("image", network, target=1)({"image": image, "other": 3})
    assert not isinstance(found["image_saliency"], MetaTensor)
    assert found["image_saliency"].dtype == torch.float32
    assert found["other"] == 3
    with pytest.raises(TypeError, match="ndarray"):
        Saliencyd("image", network)({"image": image.numpy()})
    with pytest.raises(TypeError, match=r"nn\.Module|parameters"):
        Saliencyd("image", "network")
    with pytest.raises(KeyError, match="missing"):
        Saliencyd("missing", network)({"image": image})
    assert Saliencyd("missing", network, allow_missing_keys=True)({"image": image}).keys() == {
        "image"
    }


def test_over_windows(preprocessing, scans) -> None:
    net = UNet(3, 1, 2, channels=(4, 8), strides=(2,)).eval()
    method = Windowed("gradient", 8, overlap=0.5)
    found = Saliencyd("image", net, method, target=1)(preprocessing({"image": str(scans[0])}))
    expected = medsal.explain(net, found["image"][None], 1, method)
    torch.testing.assert_close(found["image_saliency"].as_tensor(), expected.data[0])


@pytest.mark.parametrize("sliding", [False, True])
def test_the_handler_and_the_engines_own_transforms(
    network, preprocessing, loaded, scans, sliding: bool
) -> None:
    """Attached to the evaluator, with `Invertd` after it; the network was in training mode."""
    network = UNet(3, 1, 2, channels=(4, 8), strides=(2,)) if sliding else network
    inferer = SlidingWindowInferer((8, 8, 8), overlap=0.5) if sliding else None
    evaluator = SupervisedEvaluator(
        torch.device("cpu"),
        loaded(scans),
        network,
        inferer=inferer,
        postprocessing=Invertd(
            "saliency", preprocessing, orig_keys="image", nearest_interp=False, to_tensor=True
        ),
    )
    SaliencyHandler("gradient", target=1).attach(evaluator)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    evaluator.run()
    (last,) = evaluator.state.output
    scan = nibabel.load(scans[1])
    assert last["saliency"].shape == (1, *scan.shape)
    np.testing.assert_allclose(last["saliency"].affine, scan.affine, atol=1e-4)
    assert last["saliency"].abs().max() > 0
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_the_handler_wants_an_engine_of_monai() -> None:
    class Engine:
        class state:  # noqa: N801
            output = (1, 2)

    with pytest.raises(ValueError, match="tuple"):
        SaliencyHandler()(Engine())
