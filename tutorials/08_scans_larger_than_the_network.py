# %% [markdown]
# # Scans larger than the network
#
# A network that sees windows of a volume predicts window by window. Can its saliency be put
# together again, on one scale and without seams, for a volume that never fits the network at
# once?
#
# Everything here ships with medsal.

# %%
import torch

import medsal
from medsal.demo import BUNDLE, SCAN
from medsal.monai import Windowed, load_bundle

bundle = load_bundle(BUNDLE)
head = bundle.preprocessing({"image": str(SCAN)})["image"][None]
print(tuple(head.shape))

# %% [markdown]
# ## A long volume
#
# Three heads in a row, as if one scan went over three people: the lesion is in the middle one.
# The lesion of the others is covered by the mirror image of the same head.

# %%
where = medsal.explain(bundle.network, head).peak()
healthy = head.clone()
box = tuple(slice(max(i - 12, 0), i + 12) for i in where)
healthy[(..., *box)] = head.flip(2)[(..., *box)]
print("the healthy head:", bundle.classes[bundle.network(healthy).argmax()])
volume = torch.cat([healthy, head, healthy], dim=-1)
print(tuple(volume.shape))

# %% [markdown]
# ## Window by window
#
# `Windowed` is a method made of a method, over MONAI's `sliding_window_inference` with its
# overlap and blending. What is explained is fixed once for the volume; each window's raw map goes
# into the blend, so that all share one scale.

# %%
windowed = Windowed("gradcam", roi_size=(96, 112, 96), overlap=0.5, mode="gaussian")
result = medsal.explain(
    bundle.network, volume, target=bundle.classes.index("ring"), method=windowed
)
print(result)
print("peak at voxel", result.peak(), "- the lesion is at", (*where[:2], where[2] + 96))
for i, part in enumerate(result.data.split(96, dim=-1)):
    print(f"head {i}: largest value {part.max():.4f}")

# %%
result.plot(title="three heads, one scale")

# %% [markdown]
# ## Without seams
#
# What a method gives for each window is blended with weights that sum to one, so that a constant
# stays constant. Any callable is a method: this one gives 1 everywhere.


# %%
def ones(probe: medsal.Probe, image: torch.Tensor) -> torch.Tensor:
    return torch.ones_like(image[:, :1])


flat = medsal.explain(bundle.network, volume, target=2, method=Windowed(ones, (96, 112, 96)))
print("from", flat.data.min().item(), "to", flat.data.max().item())

# %% [markdown]
# ## A bundle knows its windows
#
# Where a bundle's inferer slides a window, `bundle.explain`, the overlay and the command line use
# the same windows. `Windowed.like(inferer, method)` does it for an inferer of your own. Only one
# window of the network is in memory at once, beside the map.

# %%
from monai.inferers import SlidingWindowInferer

inferer = SlidingWindowInferer(
    roi_size=(96, 112, 96), sw_batch_size=1, overlap=0.5, mode="gaussian"
)
print(Windowed.like(inferer, "gradcam") == windowed)
