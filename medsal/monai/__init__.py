"""The doors to MONAI: with the demo bundle, the only package that imports it."""

from medsal.monai.bundle import Bundle, load_bundle
from medsal.monai.inferer import SaliencyInferer

__all__ = ["Bundle", "SaliencyInferer", "load_bundle"]
