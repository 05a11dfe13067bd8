"""Heads whose channels do not compete, and segmentations without what was asked for."""

import warnings

import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.inferers import SlidingWindowInferer
from torch import Tensor, nn

import medsal
from medsal.monai import SaliencyInferer, Windowed
from medsal.monai.heads import for_head, is_multilabel
from medsal.targets import Positive


class Nested(nn.Module):
    """Three nested regions of one image, each with a logit of its own; 0 is the widest."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x - 1, 2 * x - 4, 3 * x - 9], 1)


@pytest.fixture
def image() -> Tensor:
    """Values from 0 to 2.5: channel 2 is positive nowhere."""
    x = torch.zeros(1, 1, 12, 12)
    x[..., 2:10, 2:10] = 1.5
    x[..., 4:8, 4:8] = 2.5
    return x


def test_the_widest_channel_is_explained_where_it_is_positive(image: Tensor) -> None:
    result = medsal.explain(Nested(), image, Positive(), "gradient")
    assert repr(result.target) == "Region(channel=0, mask=<64 voxels>)"
    torch.testing.assert_close(result.data[0, 0], (image[0, 0] > 1).float())
    # Where channels compete, the first is the background, and nothing is left of these.
    with pytest.raises(ValueError, match="no foreground"):
        medsal.explain(Nested(), image, None, "gradient")


def test_a_channel_inside_another_has_a_region(image: Tensor) -> None:
    result = medsal.explain(Nested(), image, Positive(1), "gradient")
    assert repr(result.target) == "Region(channel=1, mask=<16 voxels>)"
    windowed = medsal.explain(Nested(), image, Positive(1), Windowed("gradient", 8))
    torch.testing.assert_close(windowed.data, result.data)
    with pytest.raises(ValueError, match="channel 2 of the segmentation is positive at no voxel"):
        medsal.explain(Nested(), image, Positive(2), "gradient")
    with pytest.raises(LookupError, match="class 3"):
        medsal.explain(Nested(), image, Positive(3), "gradient")


def test_a_channel_for_each_sample(image: Tensor) -> None:
    batch = torch.cat([image, image * 2])
    result = medsal.explain(Nested(), batch, Positive((1, 2)), "gradient")
    alone = medsal.explain(Nested(), image * 2, Positive(2), "gradient")
    torch.testing.assert_close(result.data[1:], alone.data)
    assert Positive((1, 2)).sample(1) == Positive(2)


def test_of_a_classifier_it_is_the_class() -> None:
    net = nn.Sequential(nn.Conv2d(1, 3, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    x = torch.rand(2, 1, 6, 6)
    for target in (None, 2):
        ours = medsal.explain(net, x, Positive(target), "gradient")
        torch.testing.assert_close(ours.data, medsal.explain(net, x, target, "gradient").data)


def test_numbers_mean_positive_channels_for_such_a_head() -> None:
    assert for_head(1, False) == 1
    assert for_head([None, 2], True) == [Positive(None), Positive(2)]
    assert for_head(medsal.Difference(1, None), True) == medsal.Difference(
        Positive(1), Positive(None)
    )
    region = medsal.Region(1)
    assert for_head(region, True) is region


@pytest.mark.parametrize(
    ("transforms", "expected"),
    [
        ([{"_target_": "Activationsd", "keys": "pred", "sigmoid": True}], True),
        ([{"_target_": "monai.transforms.Activations", "sigmoid": True}], True),
        ([{"_target_": "Activationsd", "keys": ["pred", "m"], "sigmoid": [True, False]}], True),
        ([{"_target_": "Activationsd", "keys": "pred", "sigmoid": True, "softmax": False}], True),
        ([{"_target_": "Activationsd", "keys": "pred", "softmax": True}], False),
        ([{"_target_": "AsDiscreted", "keys": "pred", "argmax": True}], False),
        ([], False),
    ],
)
def test_the_config_says_it(transforms: list, expected: bool) -> None:
    post = {"postprocessing": {"_target_": "Compose", "transforms": transforms}}
    assert is_multilabel(post) is expected
    with warnings.catch_warnings():
        # MONAI warns of every config that it parses.
        warnings.simplefilter("ignore")
        parser = ConfigParser({**post, "said": {"_target_": "medsal.monai.multilabel"}})
        assert parser.get_parsed_content("said") is expected


@pytest.mark.parametrize("windows", [None, SlidingWindowInferer(8, overlap=0.5)])
def test_a_scan_without_it_is_no_failure(image: Tensor, windows) -> None:
    """Of a batch and a list of targets, what is there is explained; the rest is told."""
    names = [f"/in/scan{i}.nii.gz" for i in range(3)]
    batch = MetaTensor(
        torch.cat([image, image * 0, image * 2]),
        affine=torch.eye(4).repeat(3, 1, 1),
        meta={"filename_or_obj": names},
    )
    batch.is_batch = True
    inferer = SaliencyInferer(windows, "gradient", target=[1, 2], multilabel=True)
    with pytest.warns(UserWarning, match="no saliency map") as told:
        prediction = inferer(batch, Nested())
    assert torch.equal(prediction.as_tensor(), Nested()(batch.as_tensor()))
    found = [(each.origins[0].path, t.channel) for each in inferer.results for t in each.targets]
    assert found == [(names[0], 1), (names[2], 1), (names[2], 2)]
    assert [str(each.message).split(":")[0] for each in told] == [
        "no saliency map of scan0.nii.gz", *["no saliency map of scan1.nii.gz"] * 2
    ]  # fmt: skip
    alone = medsal.explain(Nested(), image * 2, Positive(2), "gradient")
    torch.testing.assert_close(inferer.results[1].data[:, 1:], alone.data)


def test_nothing_in_the_foreground(image: Tensor) -> None:
    inferer = SaliencyInferer(method="gradient")
    net = nn.Sequential(Nested(), nn.Conv2d(3, 2, 1))
    with torch.no_grad():
        net[1].weight.zero_()
        net[1].bias.copy_(torch.tensor([1.0, 0.0]))
    with pytest.warns(UserWarning, match="no foreground"):
        inferer(image, net)
    assert inferer.results == []
