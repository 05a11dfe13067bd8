"""Saliency beside the prediction in an engine's output."""

from collections.abc import Sequence
from typing import Any

from monai.engines import IterationEvents
from monai.utils import CommonKeys

from medsal.explain import explain
from medsal.methods import Explainer, configured
from medsal.monai.inferred import as_inferred
from medsal.monai.transform import like


class SaliencyHandler:
    """Puts the map of each batch into ``engine.state.output``, before it is decollated.

    It is ``(n, t, *s)`` with the meta data of the images, so that the engine's own post transforms
    can bring it home (`Invertd`) and write it (`SaveImaged`). Where the engine's inferer slides a
    window, the map is made over the same windows.

    Args:
        method: as in `medsal.explain`.
        target: as in `medsal.explain`.
        layer: as in `medsal.explain`.
        key: under which the map is put.
        **options: of the method, when it is given by name.

    Raises:
        LookupError: for a method that does not exist.
        TypeError: for an option that it does not have.
    """

    def __init__(
        self,
        method: str | Explainer = "gradcam",
        target: Any = None,
        layer: str | Sequence[str] | None = None,
        key: str = "saliency",
        **options: Any,
    ) -> None:
        self.method = configured(method, layer, options)
        self.target = target
        self.key = key

    def attach(self, engine: Any) -> None:
        """Let an evaluator or a trainer of MONAI call this handler."""
        # First of all: MONAI decollates at the event that follows, with the map in the output.
        engine.add_event_handler(IterationEvents.FORWARD_COMPLETED, self)

    def __call__(self, engine: Any) -> None:
        """Explain the batch that the engine has just predicted.

        Raises:
            ValueError: when the engine's output does not hold the image and the prediction.
        """
        output = engine.state.output
        if not isinstance(output, dict) or CommonKeys.IMAGE not in output:
            got = sorted(map(str, output)) if isinstance(output, dict) else type(output).__name__
            raise ValueError(
                f"expected an engine whose output holds {CommonKeys.IMAGE!r}, as those of MONAI "
                f"do, got {got}"
            )
        image = output[CommonKeys.IMAGE]
        result = as_inferred(
            engine.inferer,
            self.method,
            image,
            output.get(CommonKeys.PRED),
            lambda method: explain(engine.network, image, self.target, method),
        )
        output[self.key] = like(result.data, image)
