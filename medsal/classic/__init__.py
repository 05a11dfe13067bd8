"""One call for three methods, on batches of pictures or volumes, with maps from 0 to 1."""

from medsal.classic.call import Saliency, saliency
from medsal.classic.plot import saliency_plot

__all__ = ["Saliency", "saliency", "saliency_plot"]
