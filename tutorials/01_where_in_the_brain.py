# %% [markdown]
# # Where in the brain?
#
# A 3D network says which kind of lesion a brain MR volume holds. Where did it look?
# Everything here ships with medsal: the network, a real head (Colin27), and one simulated lesion
# in it whose place is known.

# %%
import medsal
from medsal.demo import BUNDLE, SCAN
from medsal.demo.truth import lesion_distance
from medsal.monai import load_bundle

bundle = load_bundle(BUNDLE)
image = bundle.preprocessing({"image": str(SCAN)})["image"][None]
print(tuple(image.shape), "voxels of 2 mm; the scan itself is oblique, left-handed and anisotropic")

# %% [markdown]
# ## Three methods
#
# Grad-CAM weighs the channels of the last convolutional layer by the gradient of the class score:
# coarse, and it tells classes apart. Guided Backpropagation shows the voxels whose increase would
# excite the network: fine, and hardly tells classes apart. Guided Grad-CAM is their product.

# %%
for method in ("gradcam", "guided_backprop", "guided_gradcam"):
    result = medsal.explain(bundle.network, image, method=method)
    edge, centre = lesion_distance(result.peak_mm())
    print(f"{method}: {edge:.1f} mm from the lesion's edge, {centre:.1f} mm from its centre")
    result.save(f"{method}.nii.gz")
    result.save(f"{method}.png")

# %% [markdown]
# The maps were written on the scan's own grid: open the scan and `gradcam.nii.gz` in 3D Slicer, and
# it lies on the anatomy. What the network looked at is not the same as what is there: a map
# explains the network, not the disease.

# %%
result = medsal.explain(bundle.network, image)
print(result)
print("peak at RAS mm:", [round(x, 1) for x in result.peak_mm()])
home = result.home()
print("on the scan's grid:", tuple(home.data.shape[2:]), "of the file's", home.origins[0].shape)
result.plot()

# %% [markdown]
# ## Why this and not that?
#
# The difference of two classes' scores is a target as good as any. And several targets cost one
# forward pass.

# %%
ring, bright = bundle.classes.index("ring"), bundle.classes.index("bright")
why = medsal.explain(bundle.network, image, target=medsal.Difference(ring, bright))
print(why.target, "peak:", [round(x, 1) for x in why.peak_mm()])
every = medsal.explain(bundle.network, image, target=list(range(len(bundle.classes))))
print("one pass,", every.data.shape[1], "maps")
