"""Where the cells of what a layer puts out lie: channels first, channels last, among tokens."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Tokens:
    """Where the cells of a grid lie among a layer's tokens.

    Attributes:
        grid: cells along each spatial axis.
        order: for each cell, row by row, which of a sample's tokens it is, ``(cells,)``.
    """

    grid: tuple[int, ...]
    order: Tensor

    def placed(self, tensor: Tensor, samples: int) -> Tensor:
        """Tokens ``(n, tokens, k)`` or ``(n windows, tokens, k)`` as ``(n, k, *f)``."""
        rows = tensor.reshape(samples, -1, tensor.shape[-1])
        cells = rows[:, self.order.to(tensor.device)]
        return cells.transpose(1, 2).reshape(samples, -1, *self.grid)

    def put(self, tensor: Tensor, features: Tensor, samples: int) -> Tensor:
        """The tokens with the cells' features ``(m n, k, *f)``; those without a cell stay."""
        times = len(features) // samples
        rows = tensor.reshape(samples, -1, tensor.shape[-1]).repeat(times, 1, 1)
        rows[:, self.order.to(tensor.device)] = features.flatten(2).transpose(1, 2)
        return rows.reshape(times * len(tensor), *tensor.shape[1:])


@dataclass(frozen=True, eq=False)
class Layout:
    """Where the cells of what a layer puts out lie.

    Attributes:
        channels_last: ``(n, *f, k)`` instead of ``(n, k, *f)``.
        tokens: where they lie among tokens; None for a grid.
    """

    channels_last: bool = False
    tokens: Tokens | None = None

    def placed(self, tensor: Tensor, samples: int) -> Tensor:
        """The layer's output as features ``(n, k, *f)``."""
        if self.tokens:
            return self.tokens.placed(tensor, samples)
        return tensor.movedim(-1, 1) if self.channels_last else tensor

    def put(self, tensor: Tensor, features: Tensor, samples: int) -> Tensor:
        """The layer's output with other features in the place of its own."""
        if self.tokens:
            return self.tokens.put(tensor, features, samples)
        return features.movedim(1, -1) if self.channels_last else features
