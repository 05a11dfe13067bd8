"""DICOM: what a PACS and 3D Slicer take, beside the series that it was made from."""

from medsal.export.dicom.files import check_installed, save_dicom

__all__ = ["check_installed", "save_dicom"]
