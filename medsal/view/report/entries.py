"""The maps of a report, named and on their scales."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from medsal.result import SaliencyMap
from medsal.view import words
from medsal.view.look import draw_scene
from medsal.view.panel import Drawing
from medsal.view.scale import join
from medsal.view.scene import scene


@dataclass(frozen=True, eq=False)
class Entry:
    """One map of the report: how it is drawn, and what its method is called."""

    drawing: Drawing
    method: str

    @property
    def target(self) -> str:
        return self.drawing.scene.target

    @property
    def name(self) -> str:
        return f"{self.method}, {self.target}"


def gather(
    results: Sequence[SaliencyMap], classes: Sequence[str], title: str | None
) -> list[Entry]:
    """The maps as they are to be drawn; those of one method on one scale."""
    pairs = [(each, k) for each in results for k in range(len(each.targets))]
    if not pairs:
        raise ValueError("expected one result or more, got none")
    scenes = [scene(each, k, classes=classes) for each, k in pairs]
    groups = [words.asked(each) for each in scenes]
    short = {words.asked(each): words.method(each) for each in scenes}
    names = short if len(set(short.values())) == len(short) else {each: each for each in short}
    scales = {
        group: join([each for each, of in zip(scenes, groups, strict=True) if of == group])
        for group in short
    }
    return [
        Entry(draw_scene(each, scale=scales[group], title=title), names[group])
        for each, group in zip(scenes, groups, strict=True)
    ]
