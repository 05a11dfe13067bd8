"""Imports once what warns while it is imported: MONAI remembers a failed import for good."""

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import monai.bundle  # noqa: F401
