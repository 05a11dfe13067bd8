"""The doors to MONAI: with the demo bundle, the only package that imports it."""

from medsal.monai.bundle import Bundle, code_notice, load_bundle
from medsal.monai.folders import output_dir
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
    "code_notice",
    "load_bundle",
    "output_dir",
]
