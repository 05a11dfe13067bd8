"""Writing maps: on the scan's grid, with how they were made, whole or not at all."""

from medsal.export.again import Comparison, Recipe, read_recipe
from medsal.export.dicom import save_dicom
from medsal.export.files import OUTPUTS, checked_outputs, save, save_case
from medsal.export.names import label
from medsal.export.page import page, view
from medsal.export.sidecar import sidecar
from medsal.export.volume import write_volume

__all__ = [
    "OUTPUTS",
    "Comparison",
    "Recipe",
    "checked_outputs",
    "label",
    "page",
    "read_recipe",
    "save",
    "save_case",
    "save_dicom",
    "sidecar",
    "view",
    "write_volume",
]
