# %% [markdown]
# # Where in the brain?
#
# A 3D network says which kind of lesion a brain MR volume holds. Where did it look, in the
# patient's millimetres? Everything here ships with medsal: the network, a real head (Colin27),
# and one simulated lesion in it whose place is known.

# %%
import medsal
from medsal.demo import BUNDLE, SCAN
from medsal.demo.truth import lesion_distance
from medsal.export import save_case
from medsal.monai import load_bundle
from medsal.scan import read
from medsal.view import compare

bundle, scan = load_bundle(BUNDLE), read(SCAN)
image = bundle.prepare(scan)
print("the network sees", tuple(image.shape), "voxels of 2 mm")
print("the scan has    ", scan.shape, "voxels, oblique, left-handed and anisotropic")

# %% [markdown]
# ## One line
#
# Grad-CAM of the predicted class: three planes through the peak, with its place in RAS mm.

# %%
result = medsal.explain(bundle.network, image)
print(bundle.classes[int(result.output.argmax())], result.output.softmax(1).tolist())
print(result)
result.plot()

# %% [markdown]
# ## Three methods
#
# Grad-CAM weighs the channels of the last convolutional layer by the gradient of the class score:
# coarse, and it tells classes apart. Guided Backpropagation shows the voxels whose increase would
# excite the network: fine, and hardly tells classes apart. Guided Grad-CAM is their product. [How
# it works](how_it_works.md) derives them.

# %%
ring, bright = bundle.classes.index("ring"), bundle.classes.index("bright")
results = []
for method in ("gradcam", "guided_backprop", "guided_gradcam"):
    found = bundle.explain(scan, [ring, bright], method, image=image)
    edge, centre = lesion_distance(found.peak_mm())
    print(f"{method}: peak {edge:.1f} mm from the lesion's edge, {centre:.1f} mm from its centre")
    results.append(found)

# %% [markdown]
# Both classes in one figure. A method's maps share a scale, so that they compare.

# %%
compare(results, classes=bundle.classes)

# %% [markdown]
# ## Why this and not that?
#
# The difference of two classes' scores is a target as good as any.

# %%
why = medsal.explain(bundle.network, image, target=medsal.Difference(ring, bright))
print(why.target, "peak at RAS mm", [round(x, 1) for x in why.peak_mm()])

# %% [markdown]
# ## On the scan, in 3D Slicer
#
# What is written lies on the voxel grid of the file that came in, not on the network's. `home` is
# the way back; it checks that the image, sent the same way, is the scan again.

# %%
home = [
    bundle.explain(scan, ring, method, image=image).home()
    for method in ("gradcam", "guided_gradcam")
]
print(tuple(home[0].data.shape[2:]), "is the grid of", scan.path.name)
written = save_case(home, scan, "brain", classes=bundle.classes)
print(*sorted(path.name for path in written), sep="\n")

# %% [markdown]
# `brain/colin27_lesion.mrb` opens in 3D Slicer by a double click: the scan, each map in colours
# over it, the slice views at the peak, the hot regions as segmentations. Rendered by Slicer's own
# code:
#
# ![The axial, sagittal and coronal views of the scene in 3D Slicer](images/slicer.png)
#
# What the network looked at is not the same as what is there: a map explains the network, not the
# disease.
