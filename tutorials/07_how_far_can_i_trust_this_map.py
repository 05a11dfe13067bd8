# %% [markdown]
# # How far can I trust this map?
#
# A map that looks good and is wrong harms. Four questions can be put to any map, and each has a
# number for an answer: does it depend on what the network learned, does it depend on what is
# asked, does the score depend on what it marks, and do others agree?
#
# Everything here ships with medsal. Definitions and papers stand in the functions' docstrings.

# %%
import matplotlib.pyplot as plt
import torch

import medsal
from medsal.demo import BUNDLE, SCAN
from medsal.demo.truth import lesion_distance
from medsal.evaluate import deletion, insertion, pairwise, randomisation, target_sensitivity
from medsal.monai import load_bundle
from medsal.scan import read

bundle, scan = load_bundle(BUNDLE), read(SCAN)
image = bundle.prepare(scan)
ring = bundle.classes.index("ring")
methods = {
    "gradcam": medsal.GradCAM(),
    "guided_backprop": medsal.GuidedBackprop(),
    "guided_gradcam": medsal.GuidedGradCAM(),
}
results = {
    name: medsal.explain(bundle.network, image, target=ring, method=method)
    for name, method in methods.items()
}

# %% [markdown]
# ## Does it depend on what the network learned?
#
# The network's layers lose their weights, from the output to the input, and the map is made again
# (Adebayo et al., 2018, arXiv:1810.03292). Near 0, the map showed what was learned. Near 1, it
# shows the image, whatever the network knows.

# %%
probe = medsal.Probe(bundle.network, medsal.ClassScore(ring))
for name, method in methods.items():
    found = randomisation(probe, image, method, steps=3)
    ranks = ", ".join(f"{float(rank):.2f}" for rank in found.similarity.rank[0])
    print(f"{name:16} rank correlation with the true map as layers go: {ranks}")

# %% [markdown]
# ## Does it depend on what is asked?
#
# The maps of two classes, side by side: a method that shows why this class and not that one gives
# maps that differ.

# %%
asked = medsal.Probe(bundle.network, (medsal.ClassScore(ring), medsal.ClassScore(1)))
for name, method in methods.items():
    alike = target_sensitivity(asked, image, method).rank[0, 0, 1]
    print(f"{name:16} rank correlation of the maps of ring and bright: {alike:.2f}")

# %% [markdown]
# Guided Backpropagation shows much the same for either class: it is no evidence for one.

# %% [markdown]
# ## Does the score depend on what it marks?
#
# Take away what the map calls most relevant (put the blurred image in its place): the probability
# should fall fast. Put it back into the blurred image: it should rise fast (Petsiuk et al., 2018,
# arXiv:1806.07421). The same in a random order tells how much of that is the map's merit.

# %%
sure = medsal.Probe(bundle.network, medsal.ClassScore(ring, activation="softmax"))
maps = {name: results[name].data.relu() for name in ("gradcam", "guided_backprop")}
maps["random"] = torch.rand(image.shape, generator=torch.Generator().manual_seed(0))
figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), sharey=True)
for name, saliency in maps.items():
    away = deletion(sure, image, saliency, steps=6, block=4)
    back = insertion(sure, image, saliency, steps=6, block=4)
    print(f"{name:16} deletion {float(away.auc):.2f}, insertion {float(back.auc):.2f}")
    axes[0].plot(away.fractions, away.scores[0], label=name)
    axes[1].plot(back.fractions, back.scores[0], label=name)
axes[0].set(title="deletion: low is good", xlabel="share of the voxels", ylabel="probability")
axes[1].set(title="insertion: high is good", xlabel="share of the voxels")
axes[1].legend()
# %% [markdown]
# Both change what the network sees into what it never saw in training: a probability that rises
# on the way down says more of that than of the map. Read them beside the other answers, not
# alone.

# %% [markdown]
# ## Do others agree?
#
# Other methods, and the same one over noise of another seed. Agreement is no proof; disagreement
# is a warning.

# %%
names = [*methods, "smooth 0", "smooth 1"]
every = [result.data for result in results.values()]
for seed in (0, 1):
    smooth = medsal.Smooth("gradcam", samples=3, seed=seed)
    every.append(medsal.explain(bundle.network, image, target=ring, method=smooth).data)
alike = pairwise([each.abs() for each in every]).rank[0]
for name, row in zip(names, alike, strict=True):
    print(f"{name:16}", *(f"{float(value):5.2f}" for value in row))

# %% [markdown]
# ## And is it in the right place?
#
# Nobody knows, of a real scan. Of this one, where the lesion was put in, everybody does; and
# methods are compared where it is known. A map explains the network: a network that is wrong has
# a map as well.

# %%
for name, result in results.items():
    edge, centre = lesion_distance(result.peak_mm())
    print(f"{name:16} peak {edge:.1f} mm from the lesion, {centre:.1f} mm from its centre")

# %% [markdown]
# ## On the command line
#
# `medsal check BUNDLE SCAN --method gradcam` asks the first three questions of any bundle and scan,
# says in plain words what passed and what did not, and leaves a JSON and a picture.
