"""The shapes that pass between the parts, named once.

Letters: ``n`` samples, ``c`` image channels, ``k`` feature channels, ``t`` targets, ``*s`` the
image's spatial axes (1 to 3), ``*f`` a layer's spatial axes.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

from jaxtyping import Bool, Float
from torch import Tensor

Image: TypeAlias = Float[Tensor, "n c *s"]
Map: TypeAlias = Float[Tensor, "n t *s"]
Mask: TypeAlias = Bool[Tensor, "n 1 *s"]
Features: TypeAlias = Float[Tensor, "n k *f"]
# One weight per channel or per cell: broadcast against the features.
Weights: TypeAlias = Float[Tensor, "n k *w"]
Scores: TypeAlias = Float[Tensor, " n"]
Affine: TypeAlias = Float[Tensor, "*n 4 4"]

Target: TypeAlias = Callable[[Any], Tensor]
"""What is explained: a callable from a model's output to one score per sample, ``(n,)``."""
