"""The result: a raw map with all that is needed to read, place and repeat it."""

import dataclasses
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from html import escape
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from medsal.methods import Explainer
from medsal.origin import Origin, Pipeline
from medsal.probe import ModelCard
from medsal.targets import sample_of
from medsal.types import Affine, Image, Map, Mask, Target

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from medsal.view import Interactive


# A notebook shows so many maps at once; each is a picture of some 200 kB.
_SHOWN = 4


@dataclass(frozen=True, eq=False)
class SaliencyMap:
    """Where a network looked: the raw map, with all that is needed to read, place and repeat it.

    Attributes:
        data: ``(n, t, *s)`` float32, raw: not rescaled, not inverted; one map per sample and
            target.
        image: ``(n, c, *s)``, what the network saw.
        output: the model's output for the image, without a graph.
        target: what was explained, with the predicted class written out; a tuple where a list was
            asked for.
        method: the method, with its options.
        layer: the layer (or layers) that it used; None for methods without one.
        affine: ``(4, 4)`` float64, voxel to RAS mm of the map's grid; ``(n, 4, 4)`` where samples
            differ; None if the image did not bring one.
        cells: the grid of the layer, before upsampling; None for methods without one.
        seen: ``(n, 1, *s)`` bool, the voxels that the network saw; None = all.
        origins: where each sample came from.
        notes: what its reader should know.
        model: which model it was.
        cell_mm: the width of the layer's cells on the network's grid [mm]; None where it has no mm.
        pipeline: the bundle that it was made with; None where there was none.
        input: the parameter of the forward pass that took the image; None = the first one.
        forward_kwargs: its other arguments, by name; None where they are not known.
    """

    data: Map
    image: Image
    output: Any
    target: Target | tuple[Target, ...]
    method: Explainer
    layer: str | tuple[str, ...] | None
    affine: Affine | None
    cells: tuple[int, ...] | None
    seen: Mask | None
    origins: tuple[Origin, ...]
    notes: tuple[str, ...]
    model: ModelCard
    cell_mm: tuple[float, ...] | None = None
    pipeline: Pipeline | None = None
    input: str | None = None
    forward_kwargs: Mapping[str, Any] | None = None

    def __repr__(self) -> str:
        grid = " x ".join(map(str, self.data.shape[2:]))
        layer = f", layer={self.layer!r}" if self.layer else ""
        maps = self.data.shape[0] * self.data.shape[1]
        asked = f"{self.method!r}{layer}, {self.target!r}, {self.model.name}"
        return f"SaliencyMap({maps} of {grid}, {asked})"

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, i: int) -> "SaliencyMap":
        """One sample of a batch.

        Raises:
            IndexError: when there is no such sample.
        """
        n = len(self)
        if not -n <= i < n:
            raise IndexError(f"expected a sample of 0 to {n - 1}, got {i}")
        i %= n
        several = self.affine is not None and self.affine.ndim == 3
        return dataclasses.replace(
            self,
            data=self.data[i][None],
            image=self.image[i][None],
            output=sample_output(self.output, i, n),
            target=map_targets(self.target, lambda target: sample_of(target, i)),
            affine=self.affine[i] if several and self.affine is not None else self.affine,
            seen=None if self.seen is None else self.seen[i][None],
            origins=(self.origins[i],),
            forward_kwargs=sample_output(self.forward_kwargs, i, n),
        )

    @property
    def targets(self) -> tuple[Target, ...]:
        """The targets, one per map of a sample."""
        return self.target if isinstance(self.target, tuple) else (self.target,)

    def peak(self, target: int = 0) -> tuple[int, ...]:
        """The voxel with the largest magnitude, of one sample's map.

        Raises:
            ValueError: when there are several samples.
        """
        if len(self) != 1:
            raise ValueError(f"expected one sample, got {len(self)}; take one: result[0].peak()")
        flat = int(self.data[0, target].abs().argmax())
        return tuple(int(i) for i in torch.unravel_index(torch.tensor(flat), self.data.shape[2:]))

    def peak_mm(self, target: int = 0) -> tuple[float, float, float]:
        """Where that voxel lies, in RAS mm.

        Raises:
            ValueError: when there are several samples, or the image brought no affine.
        """
        if self.affine is None:
            raise ValueError("expected an image with an affine (a MetaTensor), got none: no mm")
        index = (*self.peak(target), 0, 0)[:3]
        x, y, z = (self.affine[:3, :3] @ torch.tensor(index).double() + self.affine[:3, 3]).tolist()
        return x, y, z

    def home(self, *, check: bool = True) -> "SaliencyMap":
        """The same map on the voxel grid of the file that came in; see `medsal.space.home`."""
        from medsal.space import home

        return home(self, check=check)

    def plot(self, **options: Any) -> "Figure":
        """Orthogonal slices through the peak; see `medsal.view.ortho` for the options."""
        from medsal.view import ortho

        return ortho(self, **options)

    def view(self, **options: Any) -> "Interactive":
        """An interactive viewer for a notebook, with all targets: no extension, no network.

        Args:
            **options: ``classes``, the names of the model's classes; ``height`` of the frame
                [pixels]; others of `medsal.view.report`.

        Raises:
            ValueError: when there are several samples.
        """
        from medsal.export import view

        return view(self, **options)

    def _repr_html_(self) -> str:
        """The slices of the first few maps, as a notebook shows them; on one scale for a sample."""
        from medsal.view import shared_scale

        pairs = [(i, j) for i in range(len(self)) for j in range(len(self.targets))]
        pictures = []
        for i, j in pairs[:_SHOWN]:
            buffer = BytesIO()
            figure = self[i].plot(target=j, scale=shared_scale(self[i]))
            figure.savefig(buffer, format="png", facecolor=figure.get_facecolor())
            encoded = b64encode(buffer.getvalue()).decode()
            pictures.append(f'<img style="max-width:100%" src="data:image/png;base64,{encoded}">')
        left = len(pairs) - _SHOWN
        rest = f"<p>and {left} more: result[i].plot(target=j)</p>" if left > 0 else ""
        return f"<div><code>{escape(repr(self))}</code>{''.join(pictures)}{rest}</div>"

    def save(self, path: str | Path, **options: Any) -> list[Path]:
        """Write the map; the suffix says as what. See `medsal.export.save`."""
        from medsal.export import save

        return save(self, path, **options)


def map_targets(target: Any, change: Callable[[Target], Target]) -> Any:
    """A target, or each of a tuple, changed."""
    return tuple(change(each) for each in target) if isinstance(target, tuple) else change(target)


def sample_output(output: Any, i: int, n: int) -> Any:
    """One sample of what a model gave or was given for ``n``, with its axis of samples."""
    if isinstance(output, Tensor):
        return output[i][None] if output.ndim and len(output) == n else output
    if isinstance(output, Mapping):
        return {key: sample_output(value, i, n) for key, value in output.items()}
    if isinstance(output, tuple | list):
        parts = [sample_output(value, i, n) for value in output]
        return parts if isinstance(output, list) else tuple(parts)
    return output
