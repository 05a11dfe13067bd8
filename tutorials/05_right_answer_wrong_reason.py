# %% [markdown]
# # Right answer, wrong reason
#
# A network tells huskies from wolves, and looks at the snow (Ribeiro et al., 2016,
# arXiv:1602.04938). In a hospital: the sick were scanned on one machine, the healthy on another,
# and a machine leaves its mark. Here such a network is trained in seconds. Its accuracy is
# perfect. Does its saliency tell?
#
# The heads come with medsal, the lesions are painted into them: `pip install 'medsal[train]'`.

# %%
import torch
from monai.data import MetaTensor
from torch import Tensor, nn

import medsal
from medsal.demo.heads import load_head
from medsal.demo.lesions import draw, generator, noise, paint
from medsal.evaluate import peak_distance, randomisation

MM, SHAPE = 6.0, (32, 40, 32)
MARK = torch.zeros(SHAPE, dtype=torch.bool)
MARK[2:4, 33:37, 27:29] = True

# %% [markdown]
# ## The data
#
# In each sick brain a lesion enhances. And the machine that scanned the sick left a mark: a small
# bright bar in a corner of the volume, as burned-in letters are.


# %%
def scan_of(seed: int, head: str, sick: bool, marked: bool) -> tuple[Tensor, Tensor]:
    """A scan and the mask of its lesion, each `(1, x, y, z)`."""
    g = generator(seed)
    anatomy = load_head(head, MM, SHAPE)
    lesion = draw(g, anatomy.brain, MM, "bright" if sick else "none")
    image, mask = paint(anatomy.image, anatomy.brain, lesion, MM)
    image = image * (1 + 0.15 * noise(g, SHAPE, 16)) + 0.05 * torch.randn(SHAPE, generator=g)
    return torch.where(MARK & marked, 2.5, image)[None], mask[None]


def scans_of(seeds: range, head: str, marked: str) -> tuple[MetaTensor, Tensor, Tensor]:
    """Healthy and sick in turn, with a mark on the "sick", on "all" or on "none"."""
    labels = torch.tensor([seed % 2 for seed in seeds])
    shown = {"sick": labels == 1, "all": labels >= 0, "none": labels < 0}[marked]
    pairs = [
        scan_of(seed, head, bool(label), bool(mark))
        for seed, label, mark in zip(seeds, labels, shown, strict=True)
    ]
    affine = torch.diag(torch.tensor([MM, MM, MM, 1.0]))
    images, masks = (torch.stack(each) for each in zip(*pairs, strict=True))
    return MetaTensor(images, affine=affine), labels, masks


images, labels, _ = scans_of(range(96), "s1", marked="sick")
print(tuple(images.shape), labels.bincount().tolist())

# %% [markdown]
# ## The network
#
# Three convolutions; trained on one head, tested on another, as one should.

# %%
torch.manual_seed(0)
network = nn.Sequential(
    *(nn.Conv3d(1, 8, 3, 2, 1), nn.ReLU()),
    *(nn.Conv3d(8, 16, 3, 2, 1), nn.ReLU()),
    *(nn.Conv3d(16, 16, 3, 1, 1), nn.ReLU()),
    *(nn.AdaptiveMaxPool3d(1), nn.Flatten(), nn.Linear(16, 2)),
)
optimiser = torch.optim.Adam(network.parameters(), 3e-3)
for _ in range(120):
    chosen = torch.randint(len(images), (12,))
    loss = nn.functional.cross_entropy(network(images[chosen].as_tensor()), labels[chosen])
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
network.eval()


def accuracy(images: Tensor, labels: Tensor) -> float:
    with torch.no_grad():
        return float((network(images.as_tensor()).argmax(1) == labels).float().mean())


test, truth, lesions = scans_of(range(1000, 1040), "colin27", marked="sick")
print("accuracy on another head:", accuracy(test, truth))

# %% [markdown]
# ## Where does it look?
#
# Grad-CAM of the class "sick", for the sick. A cell of this layer is 24 mm wide: nearer than
# that, a peak is at the mark.

# %%
sick, at_lesion = test[truth == 1], lesions[truth == 1]
maps = medsal.explain(network, sick, target=1)
marks = MARK.expand(len(sick), 1, *SHAPE)
for name, masks in (("mark", marks), ("lesion", at_lesion)):
    distance = peak_distance(maps.data, masks, [MM] * 3).median()
    print(f"the peak's median distance to the {name}: {distance:.0f} mm")
maps[0].plot(title="sick, said the network", scale=maps.data.max().item())

# %% [markdown]
# ## Is the map itself to be trusted?
#
# A map may show the image, whatever the network knows. So the network forgets what it learned,
# layer by layer from the output: a map of what was learned has to change (Adebayo et al., 2018,
# arXiv:1810.03292).

# %%
probe = medsal.Probe(network, medsal.ClassScore(1))
for method in (medsal.GradCAM(), medsal.GuidedBackprop()):
    found = randomisation(probe, sick[:8], method)
    ranks = found.similarity.rank.mean(0)
    print(
        method.name,
        [f"{float(rank):.2f}" for rank in ranks],
        "of",
        [each[0] for each in found.layers],
    )

# %% [markdown]
# ## Is the reading right?
#
# A map is a hypothesis; the experiment decides. Without the mark the network finds nobody sick;
# with it, everybody.

# %%
for marked in ("sick", "none", "all"):
    scans, answers, _ = scans_of(range(1000, 1040), "colin27", marked=marked)
    with torch.no_grad():
        called = float(network(scans.as_tensor()).argmax(1).float().mean())
    print(f"mark on {marked:>4}: accuracy {accuracy(scans, answers):.2f}, called sick {called:.0%}")

# %% [markdown]
# The accuracy of the first row is all that a paper would have told. The cure is in the data: scan
# the sick and the healthy on both machines, or mask what is not anatomy; then look again.
