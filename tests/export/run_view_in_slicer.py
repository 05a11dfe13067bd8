"""Run view_in_slicer.py on slicer-core, with stand-ins for the application: its loader, its views
and its modules. `python run_view_in_slicer.py SCRIPT SCAN MAP ...`; names of NIfTI files here.
"""

import importlib.util
import json
import sys
from types import SimpleNamespace

import slicer
import slicer.util

scene = slicer.vtkMRMLScene()
slicer.mrmlScene = scene
done = {}


def load(name):
    storage = scene.AddNewNodeByClass("vtkMRMLVolumeArchetypeStorageNode")
    storage.SetFileName(f"{name}.nii.gz")
    volume = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    assert storage.ReadData(volume)
    volume.CreateDefaultDisplayNodes()
    return volume


def layers(background, foreground, foregroundOpacity):  # noqa: N803  Slicer's own name
    done["layers"] = [background.GetName(), foreground.GetName(), foregroundOpacity]


volumes = slicer.vtkSlicerVolumesLogic()
volumes.SetMRMLScene(scene)
jump = SimpleNamespace(JumpSlicesToLocation=lambda x, y, z, centred: done.update(jumped=[x, y, z]))
slicer.util.loadVolume = load
slicer.util.setSliceViewerLayers = layers
slicer.util.resetSliceViews = lambda: None
slicer.modules = SimpleNamespace(
    volumes=SimpleNamespace(logic=lambda: volumes), markups=SimpleNamespace(logic=lambda: jump)
)
spec = importlib.util.spec_from_file_location("view_in_slicer", sys.argv[1])
script = importlib.util.module_from_spec(spec)
spec.loader.exec_module(script)
_, parts = script.show(sys.argv[2], sys.argv[3:])
done["volumes"] = [
    {
        "name": each.GetName(),
        "range": list(each.GetImageData().GetScalarRange()),
        "window": [
            each.GetDisplayNode().GetWindowLevelMin(), each.GetDisplayNode().GetWindowLevelMax()
        ],
        "threshold": each.GetDisplayNode().GetLowerThreshold(),
    }
    for each in parts
]  # fmt: skip
sys.stdout.write(json.dumps(done))
