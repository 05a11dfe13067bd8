"""Saliency as a dictionary transform."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from monai.utils import convert_to_dst_type
from torch import Tensor, nn

from medsal.explain import explain
from medsal.methods import Explainer, configured
from medsal.monai.device import device_of


class Saliencyd(MapTransform):  # type: ignore[misc]
    """Adds the map of an image, ``(t, *s)`` for ``(c, *s)``, under ``<key>_saliency``.

    The map has the image's meta data and the record of its transforms, so that it goes the image's
    ways: `SaveImaged` writes it, ``Invertd(keys="image_saliency", transform=preprocessing,
    orig_keys="image", nearest_interp=False)`` brings it back to the scan's grid. It is raw, one
    channel per target.

    Args:
        keys: of the images.
        model: the network; the image is moved to its device, the map back.
        method: as in `medsal.explain`; `Windowed(...)` for images larger than the network's window.
        target: as in `medsal.explain`.
        layer: as in `medsal.explain`.
        postfix: of the map's key.
        allow_missing_keys: leave out keys that are not there.
        **options: of the method, when it is given by name.

    Raises:
        LookupError: for a method that does not exist.
        TypeError: for what is no network, or an option that the method does not have.
    """

    def __init__(
        self,
        keys: KeysCollection,
        model: nn.Module,
        method: str | Explainer = "gradcam",
        target: Any = None,
        layer: str | Sequence[str] | None = None,
        postfix: str = "saliency",
        allow_missing_keys: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if not isinstance(model, nn.Module):
            raise TypeError(f"expected the model as a torch.nn.Module, got {type(model).__name__}")
        self.model = model
        self.method = configured(method, layer, options)
        self.target = target
        self.postfix = postfix

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The same dictionary with the maps added.

        Raises:
            ValueError: for an image whose lazy transforms have not been applied.
        """
        found = dict(data)
        for key in self.key_iterator(found):
            found[f"{key}_{self.postfix}"] = self._map(found[key], str(key))
        return found

    def _map(self, image: Any, key: str) -> Tensor:
        if not isinstance(image, Tensor):
            raise TypeError(
                f"expected {key!r} as a tensor (c, *s), got {type(image).__name__}; load it with "
                f"LoadImaged and EnsureChannelFirstd"
            )
        if isinstance(image, MetaTensor) and image.pending_operations:
            raise ValueError(
                f"expected {key!r} with its transforms applied, got pending ones; put "
                f"ApplyPendingd({key!r}) before"
            )
        device = device_of(self.model, torch.device("cpu"))
        asked = image.detach().as_subclass(Tensor)[None].to(device, torch.float32)
        result = explain(self.model, asked, self.target, self.method)
        return like(result.data[0], image)


def like(data: Tensor, image: Tensor) -> Tensor:
    """A map in the place of its image: a MetaTensor with the same meta data, where it is one."""
    placed: Tensor = convert_to_dst_type(data, image, dtype=data.dtype, device=image.device)[0]
    return placed
