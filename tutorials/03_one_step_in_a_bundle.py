# %% [markdown]
# # One step in a bundle
#
# A MONAI bundle is a network with its weights and a config of how to run it. Can its inference
# write maps too, with not a line of it changed?
#
# `pip install 'medsal[bundle]'` brings what MONAI's own command needs. The bundle here is the one
# that comes with medsal; any other with the ids `evaluator` and `inferer` in its config does as
# well.

# %%
import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np

from medsal.demo import BUNDLE, SCAN


def run(*command: str) -> None:
    """Run it in the bundle's folder, as one would on the command line."""
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    subprocess.run(
        [sys.executable, "-m", *command],
        cwd=BUNDLE,
        env=environment,
        check=True,
        capture_output=True,
    )


def predictions(folder: Path) -> list[list[str]]:
    """What the bundle wrote: a file's name and the probabilities of its classes."""
    with (folder / "predictions.csv").open() as file:
        return list(csv.reader(file))


# %% [markdown]
# ## As it is
#
# On the command line, in the bundle's folder: `python -m monai.bundle run --config_file
# configs/inference.json`

# %%
bundle_run = ("monai.bundle", "run", "--config_file")
here = Path.cwd()
run(*bundle_run, "configs/inference.json", "--output_dir", str(here / "before"))
print(predictions(here / "before"))

# %% [markdown]
# ## With one more config
#
# `medsal overlay` prints a config that wraps the bundle's inferer. Laid over the bundle's own, it
# leaves each prediction as it is, and writes a map of it.

# %%
run("medsal", "overlay", "-o", str(here / "saliency.json"))
print((here / "saliency.json").read_text())

# %%
both = str(["configs/inference.json", str(here / "saliency.json")])
run(*bundle_run, both, "--output_dir", str(here / "after"))
assert predictions(here / "after") == predictions(here / "before")
(written,) = (here / "after").rglob("*_saliency.nii.gz")
print(written.relative_to(here))

# %% [markdown]
# ## On the scan's own grid
#
# The bundle turned, resampled and cropped the scan before its network saw it. The map is back on
# the file that came in, voxel for voxel; where the network saw nothing it is 0 and the sidecar
# says so.

# %%
scan, saliency = nibabel.load(SCAN), nibabel.load(written)
print("scan", scan.shape, nibabel.aff2axcodes(scan.affine))
print("map ", saliency.shape, nibabel.aff2axcodes(saliency.affine))
assert saliency.shape == scan.shape
assert np.allclose(saliency.affine, scan.affine, atol=1e-4)
sidecar = json.loads(written.with_suffix("").with_suffix(".json").read_text())
print(sorted(sidecar))

# %% [markdown]
# ## Other methods, other classes
#
# Options are overridden the MONAI way:
#
# ```sh
# python -m monai.bundle run --config_file "['configs/inference.json', 'saliency.json']" \
#     --saliency::method guided_gradcam --saliency::target "[0, 2]" --saliency::output_dir maps
# ```
#
# The same in Python, for an evaluator of your own: `SaliencyInferer` wraps any inferer.

# %%
from medsal.monai import SaliencyInferer, load_bundle

bundle = load_bundle(BUNDLE)
inferer = SaliencyInferer(bundle.inferer, method="guided_gradcam", target=[0, 2], output_dir="maps")
inferer(bundle.preprocessing({"image": str(SCAN)})["image"][None], bundle.network)
for path in sorted(Path("maps").rglob("*_saliency.nii.gz")):
    print(path.name)
