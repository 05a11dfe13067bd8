"""What to tell of a layer that a map is made of, and what to name instead."""

from collections.abc import Sequence

from medsal.probe.taps.layers import Layer


def narrow(name: str, grid: tuple[int, ...], axes: tuple[int, ...], layers: list[Layer]) -> str:
    """What to tell of a layer with one cell on an axis, and the layers that have more."""
    wider = {
        layer.shape[2:]: layer.name
        for layer in layers
        if layer.shape
        and len(layer.shape) == len(axes) + 2
        and all(
            cells > 1 or cells == size for cells, size in zip(layer.shape[2:], axes, strict=True)
        )
    }
    named = ", ".join(f"{layer!r} {shape}" for shape, layer in list(wider.items())[::-1][:3])
    return (
        f"layer {name!r} has the grid {grid} for the image {axes}: one cell on an axis says "
        f"nothing of where along it; give a larger image or a layer with more cells: "
        f"{named or 'there is none'}"
    )


def before_tokens(name: str, layers: Sequence[Layer], axes: int) -> str | None:
    """What to tell of a layer after which there are blocks of tokens alone; None of any other."""
    names = [each.name for each in layers]
    if axes == 1 or name not in names or len(layers[names.index(name)].shape or ()) == 3:
        return None
    after = [each for each in layers[names.index(name) + 1 :] if each.shape]
    tokens = [each for each in after if len(each.shape or ()) == 3]
    # Attention's heads have as many axes as features, and no weights.
    weighed = [each for each in after if "Conv" in each.kind or "Norm" in each.kind]
    on_grids = any(len(each.shape or ()) == axes + 2 for each in weighed)
    if on_grids or not any("Norm" in each.kind for each in tokens):
        return None
    return (
        f"layer {name!r} is followed by {len(tokens)} layers of tokens, which have no spatial axes "
        f"of their own; for a map of what the network made of the image there, name one before the "
        f"last attention, such as the first norm of the last block"
    )
