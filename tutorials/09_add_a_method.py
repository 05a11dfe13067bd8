# %% [markdown]
# # Add a method
#
# You have an idea for a better map. How much is there to write, and how do you know that it is
# right in 1, 2 and 3 dimensions, for batches, for several targets, and that it leaves the model
# alone?
#
# A class activation map is one function of a layer's activations and gradients. Five lines:

# %%
from pathlib import Path

Path("softcam.py").write_text(
    '''
from dataclasses import dataclass
import medsal


@medsal.register("softcam")
@dataclass(frozen=True)
class SoftCAM(medsal.CAM):
    """Each cell's positive gradient counts, by its share of its channel's."""

    source = "Nobody, 2026, an example of this tutorial, arXiv:0000.00000"

    def weights(self, activations, gradients):
        share = gradients.flatten(2).softmax(2).view_as(gradients)
        return (share * gradients.relu()).sum(tuple(range(2, gradients.ndim)), keepdim=True)
'''
)

# %% [markdown]
# As soon as the module is imported, the method is known by its name everywhere: to `explain`, to
# `medsal methods`, and to a bundle's overlay.

# %%
import sys

sys.path.insert(0, ".")

import softcam  # noqa: F401  # it registers itself

import medsal
from medsal.demo import BUNDLE, SCAN
from medsal.demo.truth import lesion_distance
from medsal.monai import load_bundle

bundle = load_bundle(BUNDLE)
image = bundle.preprocessing({"image": str(SCAN)})["image"][None]
for method in ("gradcam", "softcam"):
    result = medsal.explain(bundle.network, image, method=method)
    edge, centre = lesion_distance(result.peak_mm())
    print(f"{method}: peak {edge:.1f} mm from the lesion, {centre:.1f} mm from its centre")
result.plot()

# %% [markdown]
# ## It composes
#
# Over several layers, over noise, over mirrored inputs, over windows: these take any method.

# %%
mirrored = medsal.Mirrored("softcam")
print(mirrored)
print(lesion_distance(medsal.explain(bundle.network, image, method=mirrored).peak_mm()))

# %% [markdown]
# ## The contract
#
# The tests in medsal's repository run over all methods that are registered: shapes in 1 to 3
# dimensions, samples that do not mix, each target alone and together, no trace on the model, half
# precision. From a checkout of the repository, with your module known to pytest (`-o addopts=`
# leaves out the check of annotations, which wants to import medsal first): `python -m pytest -o
# addopts= -p softcam tests/methods/test_every.py -k softcam`.

# %%
import os
import subprocess

root = Path(medsal.__file__).parents[1]
contract = root / "tests" / "methods" / "test_every.py"
if contract.exists():
    options = ["-o", "addopts=", "-p", "softcam", "-k", "softcam", "--color=no"]
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(contract)],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
        capture_output=True,
        text=True,
    )
    print(*ran.stdout.strip().splitlines()[-1:], ran.stderr)
    assert ran.returncode == 0, ran.stdout
else:
    print("medsal is installed without its repository: the tests are there")

# %% [markdown]
# ## Anything else
#
# A method needs no layer and no gradient: any callable `(probe, image) -> (n, 1, *s)` will do.
# The probe is the model and the target as one function, from an image to a score per sample.


# %%
def darker(probe: medsal.Probe, image):
    """What the score loses when all is darker, shared by brightness."""
    loss = probe(image) - probe(image * 0.9)
    return loss.view(-1, 1, 1, 1, 1) * image / image.sum()


print(medsal.explain(bundle.network, image, method=darker))
