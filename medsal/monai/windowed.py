"""Any method over MONAI's sliding windows, for volumes that the network sees in parts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from monai.data.utils import compute_importance_map
from monai.inferers import (
    SliceInferer,
    SlidingWindowInferer,
    SlidingWindowInfererAdapt,
    sliding_window_inference,
)
from monai.utils import fall_back_tuple
from torch import Tensor

from medsal.methods import Explainer, Method, configured, maps_of
from medsal.methods.many import check_count, wide
from medsal.monai.device import device_of
from medsal.monai.parts import Frame, Window, check_targets, part_of
from medsal.outputs import class_logits
from medsal.probe import Probe, Record, quietly
from medsal.result import map_targets
from medsal.targets import sample_of, settle
from medsal.types import Image, Map


@dataclass(frozen=True)
class Windowed(Method):
    """Any method over MONAI's sliding windows, stitched by MONAI with its overlap and blending.

    Every window is explained on its own and its raw map goes into the blend: no window is
    rescaled, so all share one scale, and a constant stays constant. What is explained is settled
    once for the whole volume, at the stitched prediction. A region of a segmentation is cut per
    window, and a window without a part of it has a zero map; a class of a classifier is settled at
    the mean of the windows' logits, each weighted by its share of the blend. Beside the maps and
    the prediction, only the windows of one pass are in memory.

    Args:
        method: a method, or the name of one.
        roi_size: the window, one size per axis or one for all; 0 or less = the whole axis.
        sw_batch_size: windows in one pass of the model.
        overlap: of neighbouring windows, as a share of the window.
        mode: ``"constant"``, or ``"gaussian"`` to let the middle of a window count more.
        sigma_scale: of ``"gaussian"``, as a share of the window.
        padding_mode: how an image that is smaller than the window is filled up.
        cval: with what, for ``"constant"`` filling.
        slices: the axis along which a network of one axis less sees slices, as MONAI's
            `SliceInferer` shows them to it; None = the network has the image's axes.

    Raises:
        LookupError: for a method that does not exist.
        TypeError: for what is no method.
        ValueError: for a window or overlap that makes no sense.
    """

    method: Explainer | str
    roi_size: Sequence[int] | int
    sw_batch_size: int = 1
    overlap: Sequence[float | int] | float | int = 0.25
    mode: str = "constant"
    sigma_scale: Sequence[float | int] | float | int = 0.125
    padding_mode: str = "constant"
    cval: float | int = 0.0
    slices: int | None = None

    source: ClassVar[str] = "monai.inferers.sliding_window_inference; no paper defines it for maps"

    def __post_init__(self) -> None:
        object.__setattr__(self, "method", configured(self.method, None, {}))
        for name in ("roi_size", "overlap", "sigma_scale"):
            value = getattr(self, name)
            object.__setattr__(
                self, name, value if isinstance(value, int | float) else tuple(value)
            )
        for name in ("mode", "padding_mode"):
            # MONAI's enumerations are strings: the plain one reads better.
            object.__setattr__(self, name, str(getattr(self, name)))
        check_count("sw_batch_size", self.sw_batch_size)
        if self.mode not in ("constant", "gaussian"):
            raise ValueError(f"expected a mode of ['constant', 'gaussian'], got {self.mode!r}")
        overlaps = self.overlap if isinstance(self.overlap, tuple) else (self.overlap,)
        if not all(0 <= each < 1 for each in overlaps):
            raise ValueError(f"expected an overlap of at least 0 and below 1, got {self.overlap!r}")

    @property
    def name(self) -> str:  # type: ignore[override]
        """``windowed_`` and the inner method's name."""
        inner = getattr(self.method, "name", "") or getattr(self.method, "__name__", "method")
        return f"windowed_{inner}"

    @classmethod
    def like(cls, inferer: SlidingWindowInferer, method: Explainer | str) -> "Windowed":
        """The method over the windows of MONAI's inferer.

        Raises:
            ValueError: for an inferer that does more to its windows than those of MONAI's core.
        """
        if type(inferer) not in (SlidingWindowInferer, SlidingWindowInfererAdapt, SliceInferer):
            raise ValueError(
                f"expected a SlidingWindowInferer or SliceInferer, got {type(inferer).__name__}, "
                f"which may show the network other windows; say which: "
                f"medsal.monai.Windowed(method, roi_size)"
            )
        sliced = isinstance(inferer, SliceInferer)
        return cls(
            method,
            inferer.orig_roi_size if sliced else inferer.roi_size,
            inferer.sw_batch_size,
            inferer.overlap,
            inferer.mode,
            inferer.sigma_scale,
            inferer.padding_mode,
            inferer.cval,
            inferer.spatial_dim if sliced else None,
        )

    def window(self, size: Sequence[int]) -> tuple[int, ...]:
        """The window for an image of this spatial size.

        Raises:
            ValueError: when the window has another number of axes.
        """
        roi, seen = self.roi_size, list(size)
        if self.slices is not None:
            seen.pop(self.slices)
        if isinstance(roi, tuple) and len(roi) != len(seen):
            raise ValueError(
                f"expected a roi_size of {len(seen)} axes, as the network sees the image, got {roi}"
            )
        window = [int(each) for each in fall_back_tuple(roi, seen)]
        if self.slices is not None:
            window.insert(self.slices, 1)
        return tuple(window)

    def predict(self, probe: Probe, image: Image) -> Any:
        """The stitched prediction; of a classifier, the weighted mean of the windows' logits."""
        classified: list[tuple[Window, Tensor]] = []

        def ask(windows: Tensor, places: list[Window]) -> Any:
            output = probe.output(self._shown(windows).to(image.dtype))
            logits = None if isinstance(output, dict) else class_logits(output)
            if logits is not None:
                classified.extend(zip(places, logits, strict=True))
                return torch.zeros(len(windows), 1, *windows.shape[2:], device=windows.device)
            return _stitchable(output, self._filled)

        stitched = self._stitched(probe, image, ask)
        return self._mean(image, classified) if classified else stitched

    def __call__(self, probe: Probe, image: Image) -> Map:
        if probe.record.output is None:
            output = self.predict(probe, image)
            probe.record.output = output
            settled = map_targets(probe.target, lambda each: settle(each, output))
            probe = replace(probe, target=settled)
        check_targets(probe)
        maps = torch.cat([self._map(probe, image[i : i + 1], i) for i in range(len(image))])
        self._with_all_axes(probe.record)
        return maps

    def _with_all_axes(self, record: Record) -> None:
        """A layer's cells in slices: one lies across each."""
        if self.slices is None or record.cells is None or record.extent is None:
            return
        at = self.slices
        record.cells = (*record.cells[:at], 1, *record.cells[at:])
        record.extent = (*record.extent[:at], 1, *record.extent[at:])

    def _map(self, probe: Probe, image: Image, i: int) -> Map:
        """The maps of one sample, ``(1, t, *s)``."""
        frame = Frame(tuple(image.shape[2:]), self.window(image.shape[2:]), self.slices)
        targets = [sample_of(each, i) for each in probe.targets]

        def ask(windows: Tensor, places: list[Window]) -> Tensor:
            found = torch.zeros(
                len(windows), len(targets), *windows.shape[2:], device=windows.device
            )
            # (t, b): which of the targets have something to explain in which of the windows.
            alive = torch.stack([part_of(each, places, frame)[1] for each in targets])
            rows = alive.any(0).nonzero()[:, 0].tolist()
            if not rows:
                return found
            parts = tuple(
                part_of(each, [places[row] for row in rows], frame)[0] for each in targets
            )
            asked = replace(probe, target=parts if isinstance(probe.target, tuple) else parts[0])
            shown = self._shown(windows[rows]).to(image.dtype)
            maps = self._filled(wide(self._explained(asked, shown)))
            live = alive[:, rows].T.to(maps.device).reshape(len(rows), -1, *(1,) * (maps.ndim - 2))
            found = found.to(maps.dtype)
            found[rows] = maps.where(live, 0)
            return found

        stitched: Map = self._stitched(probe, image, ask)
        return stitched

    def _shown(self, windows: Tensor) -> Tensor:
        """Windows as the network sees them."""
        return windows if self.slices is None else windows.squeeze(2 + self.slices)

    def _filled(self, seen: Tensor) -> Tensor:
        """What the network or a method gives for them, with all axes again."""
        return seen if self.slices is None else seen.unsqueeze(2 + self.slices)

    def _explained(self, asked: Probe, windows: Tensor) -> Tensor:
        try:
            maps = maps_of(configured(self.method, None, {}), asked, windows).detach()
        except RuntimeError as error:
            raise ValueError(
                f"a window of {tuple(windows.shape[2:])} could not be explained; a target that is "
                f"a plain callable sees the output of windows, not of the volume: for a region use "
                f"medsal.Region(channel, mask): {error}"
            ) from error
        expected = (len(windows), len(asked.targets), *windows.shape[2:])
        if tuple(maps.shape) != expected:
            raise ValueError(
                f"a method gives a map of the shape {expected} for windows, got {tuple(maps.shape)}"
            )
        return maps

    def _stitched(
        self, probe: Probe, image: Image, ask: Callable[[Tensor, list[Window]], Any]
    ) -> Any:
        with quietly():
            return sliding_window_inference(
                # MONAI blends in the image's precision: half of it would show the seams.
                wide(image.detach()),
                self.window(image.shape[2:]),
                self.sw_batch_size,
                lambda windows, places: ask(windows, [tuple(each) for each in places]),
                overlap=self.overlap,
                mode=self.mode,
                sigma_scale=self.sigma_scale,
                padding_mode=self.padding_mode,
                cval=self.cval,
                # Windows go where the network is: a large volume may lie elsewhere.
                sw_device=device_of(probe.model, image.device),
                device=image.device,
                with_coord=True,
            )

    def _mean(self, image: Image, classified: list[tuple[Window, Tensor]]) -> Tensor:
        """The mean of the windows' logits, ``(n, k)``, each weighted by its share of the blend."""
        window = self.window(image.shape[2:])
        size = tuple(map(max, window, image.shape[2:]))
        weight = compute_importance_map(window, mode=self.mode, sigma_scale=self.sigma_scale)
        count = torch.zeros(size)
        for place, _ in classified:
            if place[0].start == 0:
                count[place[2:]] += weight
        mean = torch.zeros(len(image), len(classified[0][1]), device=classified[0][1].device)
        for place, logits in classified:
            share = (weight / count[place[2:]]).sum() / count.numel()
            mean[place[0].start] += logits * share.to(logits)
        return mean


def _stitchable(output: Any, fill: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(output, Tensor):
        return fill(wide(output))
    if isinstance(output, dict):
        return {key: _stitchable(value, fill) for key, value in output.items()}
    return tuple(_stitchable(value, fill) for value in output)
