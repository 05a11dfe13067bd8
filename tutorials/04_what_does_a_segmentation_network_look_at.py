# %% [markdown]
# # What does a segmentation network look at?
#
# A network that marks the brain in a head MR decides about every voxel. What of the scan does it
# need for that, and is it only the voxels that it marks?
#
# The network is deepbet's (Fisch et al., 2024, doi:10.1016/j.compbiomed.2024.108845), MIT; its
# weights come with the package: `pip install --no-deps deepbet`. The scan is the demo's: a real
# head with a lesion.

# %%
from importlib.util import find_spec
from pathlib import Path

import torch
from monai.transforms import DivisiblePad
from torch import Tensor, nn

import medsal
from medsal.demo import BUNDLE, SCAN
from medsal.monai import load_bundle

# %% [markdown]
# ## TorchScript hides its layers
#
# The weights come as TorchScript: a program of its own, whose layers no hook can reach. What
# looks at the input alone works; Grad-CAM needs a layer, and says so.

# %%
folder = Path(find_spec("deepbet").origin).parents[1] / "data" / "models"
script = torch.jit.load(folder / "bbox_model.pt").eval()
try:
    medsal.explain(script, torch.rand(1, 1, 64, 64, 64), target=medsal.Region(1))
except TypeError as error:
    print(error)

# %% [markdown]
# So the network is written down again as a module, and takes the weights: a LinkNet (Chaurasia
# and Culurciello, 2017, arXiv:1707.03718) with instance norms. It gives logits, where the script
# ends with a softmax.


# %%
def convolution(i: int, o: int, size: int, stride: int = 1) -> nn.Sequential:
    convolved = nn.Conv3d(i, o, size, stride, size // 2, bias=False)
    return nn.Sequential(convolved, nn.InstanceNorm3d(o), nn.ReLU())


def grown(i: int, o: int, stride: int, bias: bool = False) -> nn.Sequential:
    convolved = nn.ConvTranspose3d(i, o, 3, stride, 1, stride - 1, bias=bias)
    return nn.Sequential(convolved, nn.InstanceNorm3d(o), nn.ReLU())


class Block(nn.Module):
    def __init__(self, i: int, o: int, stride: int) -> None:
        super().__init__()
        self.double_conv = nn.Sequential(*convolution(i, o, 3, stride), *convolution(o, o, 3)[:2])
        self.downsample = convolution(i, o, 1, stride)[:2] if i != o else nn.Identity()
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.double_conv(x) + self.downsample(x))


class Down(nn.Sequential):
    def __init__(self, i: int, o: int, stride: int) -> None:
        super().__init__()
        self.block1, self.block2 = Block(i, o, stride), Block(o, o, 1)


class Up(nn.Sequential):
    def __init__(self, i: int, o: int, stride: int) -> None:
        super().__init__()
        self.conv1 = convolution(i, i // 4, 1)
        self.tp_conv = grown(i // 4, i // 4, stride)
        self.conv2 = convolution(i // 4, o, 1)


class LinkNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.init = nn.Sequential(*convolution(1, 16, 7, 2), nn.MaxPool3d(3, 2, 1))
        self.down0, self.down1 = Down(16, 16, 1), Down(16, 32, 2)
        self.down2, self.down3 = Down(32, 64, 2), Down(64, 128, 2)
        self.up0, self.up1 = Up(128, 64, 2), Up(64, 32, 2)
        self.up2, self.up3 = Up(32, 16, 2), Up(16, 16, 1)
        self.tp_conv1 = grown(16, 8, 2, bias=True)
        self.conv = convolution(8, 8, 3)
        self.conv[0] = nn.Conv3d(8, 8, 3, padding=1)
        self.tp_conv2 = nn.ConvTranspose3d(8, 2, 2, 2)

    def forward(self, x: Tensor) -> Tensor:
        first = self.init(x)
        second = self.down0(first)
        third = self.down1(second)
        fourth = self.down2(third)
        x = self.up0(self.down3(fourth)) + fourth
        x = self.up1(x) + third
        x = self.up2(x) + second
        x = self.up3(x) + first
        return self.tp_conv2(self.conv(self.tp_conv1(x)))


network = LinkNet().eval()
network.load_state_dict(script.state_dict())
noise = torch.rand(1, 1, 64, 64, 64)
with torch.no_grad():
    print("largest difference:", (network(noise).softmax(1) - script(noise)).abs().max().item())

# %% [markdown]
# ## A head
#
# The demo's own preprocessing puts the scan on a grid of 2 mm. The network halves it five times,
# so that sizes are padded to multiples of 32; and it wants intensities of a given mean and
# spread.

# %%
scan = load_bundle(BUNDLE).preprocessing({"image": str(SCAN)})["image"]
scan = DivisiblePad(32)(scan)[None]
low, high = scan.quantile(0.005), scan.quantile(0.995)
image = ((scan - low) / (high - low)).clamp(0, 1)
image = 0.226 * (image - image.mean()) / image.std() + 0.449
print(tuple(image.shape))

# %% [markdown]
# ## The whole brain
#
# Without a target, the channel that covers most foreground is explained, over the region where it
# wins. HiResCAM at an early layer: each cell by its own gradient, with its sign.

# %%
whole = medsal.explain(network, image, method="hirescam", layer="up3")
print(whole.target)
brain = whole.output.argmax(1)[0].bool()
print(f"brain: {brain.sum().item() * 8 / 1000:.0f} ml")
whole.plot(title="the whole brain")

# %% [markdown]
# ## Why here and not there?
#
# Two places: one deep in the brain, one at its upper edge. The score is the difference of the two
# logits, brain less rest, in a small cube there.


# %%
def cube(at: tuple[int, ...], half: int = 2) -> Tensor:
    mask = torch.zeros(image.shape[2:], dtype=torch.bool)
    mask[tuple(slice(i - half, i + half + 1) for i in at)] = True
    return mask


inside = brain.nonzero().float()
middle = tuple(inside.mean(0).round().int().tolist())
column = brain[middle[0], middle[1]].nonzero()
edge = (*middle[:2], int(column.max()))
targets = [
    medsal.Difference(medsal.Region(1, cube(at)), medsal.Region(0, cube(at)))
    for at in (middle, edge)
]
places = medsal.explain(network, image, targets, method="gradient")
for j, (name, at) in enumerate(zip(("deep", "edge"), (middle, edge), strict=True)):
    found = places.data[0, j]
    steps = torch.stack(torch.meshgrid(*(torch.arange(n) for n in found.shape), indexing="ij"))
    away = (steps - torch.tensor(at)[:, None, None, None]).float().norm(dim=0) * 2
    share = [float(found[away < mm].sum() / found.sum()) for mm in (10, 20, 40)]
    outside = float(found[~brain].sum() / found.sum())
    print(
        f"{name}: {share[0]:.0%} of the gradient within 10 mm, {share[1]:.0%} within 20 mm, "
        f"{share[2]:.0%} within 40 mm; {outside:.0%} lies outside the brain"
    )

# %%
places.plot(target=0, title="a place deep in the brain")

# %%
places.plot(target=1, title="a place at its edge")
