"""The doors to MONAI: with the demo bundle, the only package that imports it."""

from medsal.monai.around import class_names, multilabel, output_dir
from medsal.monai.bundle import Bundle, code_notice, load_bundle
from medsal.monai.handler import SaliencyHandler
from medsal.monai.inferer import SaliencyInferer
from medsal.monai.transform import Saliencyd
from medsal.monai.windowed import Windowed

__all__ = [
    "Bundle",
    "SaliencyHandler",
    "SaliencyInferer",
    "Saliencyd",
    "Windowed",
    "class_names",
    "code_notice",
    "load_bundle",
    "multilabel",
    "output_dir",
]
