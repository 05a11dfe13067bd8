# %% [markdown]
# # A free segmentation
#
# A network was told, of each head, which kind of lesion is in it, and never where. Its saliency
# says where: a segmentation for free, from class labels alone. How good is it, and how far can it
# be trusted?
#
# The network is the demo's. The heads are of Colin27, which its training never saw, with
# simulated lesions whose masks are known. `pip install 'medsal[train]'`.

# %%
import matplotlib.pyplot as plt
import torch

import medsal
from medsal.demo import BUNDLE, CLASSES
from medsal.demo.samples import LesionDataset
from medsal.evaluate import auprc, best_dice, overlap
from medsal.monai import load_bundle

network = load_bundle(BUNDLE).network
samples = list(LesionDataset(18, ["colin27"], seed=7, mode="plain"))


def normalised(image):
    """As the bundle's last transform does it."""
    return (image / image[image > image.mean()].mean()).clamp(0, 4)


images = torch.stack([normalised(each["image"]) for each in samples])
masks = torch.stack([each["mask"] for each in samples])
labels = torch.tensor([each["label"] for each in samples])
print([CLASSES[label] for label in labels])

# %% [markdown]
# ## The maps
#
# Grad-CAM of the class that the network finds, of the heads with a lesion that it finds rightly;
# and the average over the mirrored head, which costs a second pass.

# %%
maps = {}
for name, method in (("gradcam", "gradcam"), ("mirrored", medsal.Mirrored("gradcam"))):
    results = [medsal.explain(network, each[None], method=method) for each in images]
    maps[name] = torch.cat([each.data for each in results])
outputs = torch.cat([each.output for each in results])
right = (outputs.argmax(1) == labels) & (labels > 0)
print(f"{right.sum()} of {(labels > 0).sum()} lesions were named rightly")

# %% [markdown]
# ## From a map to a mask
#
# A mask needs a threshold. It is chosen on some heads, and judged on the others: whoever chooses
# it on the heads that it is judged on, reports the last column.

# %%
where = right.nonzero()[:, 0]
chosen_on, judged_on = where[:6], where[6:]  # three in a row share a head: none is in both
shares = [i / 20 for i in range(1, 20)]
threshold = {}
for name, found in maps.items():
    curve = overlap(found[chosen_on], masks[chosen_on], shares).dice.mean(0)
    threshold[name] = shares[int(curve.argmax())]
    dice = overlap(found[judged_on], masks[judged_on], [threshold[name]]).dice[:, 0]
    bound = best_dice(found[judged_on], masks[judged_on])
    print(
        f"{name}: cut at {threshold[name]:.0%} of the peak, Dice {dice.mean():.2f} "
        f"({dice.min():.2f} to {dice.max():.2f}), AUPRC "
        f"{auprc(found[judged_on], masks[judged_on]).mean():.2f}; no threshold gives more than "
        f"{bound.mean():.2f}"
    )

# %% [markdown]
# ## Seen
#
# The mask (line) and the truth (white): the middle slice of each lesion.

# %%
figure, axes = plt.subplots(1, len(judged_on), figsize=(3 * len(judged_on), 3.4), squeeze=False)
for axis, i in zip(axes[0], judged_on.tolist(), strict=True):
    z = int(masks[i, 0].nonzero()[:, 2].float().mean())
    found = maps["mirrored"][i, 0]
    axis.imshow(images[i, 0, :, :, z].T, cmap="gray", origin="lower")
    axis.contour(masks[i, 0, :, :, z].T, [0.5], colors="white", linewidths=1)
    cut = threshold["mirrored"] * found.max()
    axis.contour(found[:, :, z].T, [float(cut)], colors="orange", linewidths=1.5)
    axis.set(title=CLASSES[labels[i]], xticks=[], yticks=[])

# %% [markdown]
# ## How far can it be trusted?
#
# Coarse: cells of 8 mm can't follow an edge. And the map of a head without a lesion has a largest
# value too, so that a share of it always marks something. What tells is its raw size, which is
# why maps are not rescaled.

# %%
flat = maps["gradcam"].flatten(1)
marked = flat >= threshold["gradcam"] * flat.amax(1, keepdim=True)
for kind, those in (("lesion", right), ("none", labels == 0)):
    peaks, ml = flat[those].amax(1), marked[those].sum(1).float().mean() * 8 / 1000
    print(
        f"{kind}: peaks from {peaks.min():.4f} to {peaks.max():.4f}, {ml:.1f} ml marked on average"
    )
truth = masks[right].flatten(1).sum(1).float().mean() * 8 / 1000
print(f"the lesions have {truth:.1f} ml on average")
