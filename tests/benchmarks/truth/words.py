"""What the page says beside its figures: how they were made. No finding stands here."""

INTRODUCTION = """# Is the map true, and in the right place?

This page is written by `python -m tests.benchmarks.truth`. What it states is read off the tables
beside it (`truth_networks.csv`, `truth_placement.csv`, `truth_methods.csv`, `truth_times.csv`);
`--stage page` writes it again from them. The command takes {took}. Numbers in brackets are 95 %
intervals by bootstrap over networks (which differ in architecture, training and seed) and, within
each, over lesions; with one or two networks they say little of other networks.

**Scans.** Real heads (MNI152 and S1 to train on; Colin27 to measure on, which no training sees),
turned, bent and scaled, 64 x 64 x 64 voxels of 3 mm. Each holds one lesion of 18 to 30 mm: a core
in a shell. One kind has a bright core and a dark shell, one the other way round, one neither; what
a lesion adds sums to 0, and the two kinds are each other's negative. So total intensity, place,
size and strength are the same for all, and a smooth bright ball that means nothing lies in each
scan. A network says for each of the two kinds whether there is one; the third keeps it from
telling one kind by the other's absence, which is nowhere. *Lopsided* scans have a coil at one
side, and a field of view that cuts off the other.

**Networks.** MONAI's, with the strides and kernels that they are published with, a quarter as wide
(ResNet10 with stem stride 1: an eighth), trained by the command: first on windows around a lesion,
then on whole scans. The last layer has cells of stride 32 (2 along an axis of these scans), with
stem stride 1 of 16 (4 cells); the layers before it have twice and four times as many. *With flips*:
scans are mirrored at random along all axes. *Without flips*: never; gamma, sharpness and coil are
varied instead. That was added when, without it, they stayed well below 0.9 in the held-out head;
steps and number of lesions were chosen on other lesions in the heads for training. *medsal's demo
network* is measured beside them, on its own scans (96 x 112 x 96 voxels of 2 mm; a bright lesion, a
ring, or none); `medsal.demo.train` trained it, and its cells have stride 4."""

PLACEMENT_TEXT = """## Where coarse maps lie

Five ways to place the same map: *trilinear* upsampling, as everywhere; shifted by the *theory* of
receptive fields; shifted by what `medsal.evaluate.placement` *calibrated* on scans of other heads,
without labels; `Mirrored` in 2 and in 8 passes. Layers are counted from the end: -1 is the last one
with a grid (`layer4`, `features`), -3 is `layer2` or `denseblock2` (of the demo network's single
block, -2 is the block and -3 what goes into it). The centroid is that of what lies above half of a
map's largest value. The bias is the magnitude of the mean signed offset along an axis, so with few
lesions it is never 0. The first table of each map is of MONAI's networks on scans whose sides are
alike; the two others are of each group of networks, which differ in their seeds: how trilinear
placement does, and what the other ways gain on it (bold: the interval leaves out 0, and the gain is
0.3 mm or 0.005 of AUPRC at least).

![Where maps lie](images/truth_placement.png)"""

METHODS_TEXT = """## All methods

At their default layer and options, but: Integrated Gradients 12 steps, Expected Gradients 12
samples, SmoothGrad 8, occlusion windows of 10 voxels, RISE 200 masks; MONAI's occlusion has windows
of 16 voxels, half over each other. The demo network sees windows of 48 x 48 x 48 voxels here.

*own class*: of what both classes' maps put into a lesion, the share of its own class's map (0.5 =
no discrimination); in scans with a lesion of each kind, for the demo network in the scan itself.
*like random weights*: the rank correlation of magnitudes with the map of the same network with all
weights drawn anew (0 = nothing in common). *random* and *middle of the grid* know nothing of the
network. MONAI's maps are without its post-processing, which turns them upside down.

![All methods](images/truth_methods.png)"""

ADVICE = """## Which method for what

From the tables above, medsal's methods alone: what came first, second, third and last for each aim,
on these lesions and networks. Intervals that overlap tell no difference. Beside them stands the
better of the two maps that know nothing of the network: what is no better tells nothing."""
