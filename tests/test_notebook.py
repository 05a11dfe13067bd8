"""What a notebook shows of a result."""

import re
from base64 import b64decode
from io import BytesIO

import torch
from PIL import Image
from torch import nn

import medsal


def test_slices_at_once() -> None:
    net = nn.Sequential(
        nn.Conv3d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(4, 2)
    )
    result = medsal.explain(net, torch.rand(3, 1, 12, 12, 12), [0, 1])
    page = result._repr_html_()
    assert "ClassScore(index=0)" in page
    assert "<script" not in page
    pictures = re.findall(r"base64,([^\"]+)", page)
    assert len(pictures) == 4
    assert "2 more" in page
    for picture in pictures:
        assert min(Image.open(BytesIO(b64decode(picture))).size) > 300
