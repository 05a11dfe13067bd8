"""A check: sanity and faithfulness of a method on one network and one scan, in plain words."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from medsal.evaluate.chance import surrogates
from medsal.evaluate.finding import Finding
from medsal.evaluate.judge import findings_of
from medsal.evaluate.response import max_sensitivity
from medsal.evaluate.sparseness import gini
from medsal.evaluate.trials import Cascade, Faith, Others, by_chance, cascade, faith, others
from medsal.explain import explain
from medsal.methods import Explainer, configured
from medsal.methods.many import check_count
from medsal.probe import Probe, plain, quietly
from medsal.result import SaliencyMap

if TYPE_CHECKING:
    import matplotlib.figure

# Noisy copies for the map's sensitivity, and how the curves are read: few passes each.
_NEAR, _READ = 3, 4
# One-sided 95 %.
_Z = 1.645


@dataclass(frozen=True, eq=False)
class Check:
    """What a method's map is worth on this network and scan.

    Attributes:
        result: the map that was checked.
        findings: the answers.
        cascade: the map while the network loses its weights.
        others: the maps of other classes; None where the target is no class.
        faith: deletion and insertion.
        figures: what describes the map and is not judged.
        classes: the names of the model's classes.
    """

    result: SaliencyMap
    findings: tuple[Finding, ...]
    cascade: Cascade
    others: Others | None
    faith: Faith
    figures: Mapping[str, float]
    classes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every question was passed."""
        return all(each.outcome == "passed" for each in self.findings)

    def words(self) -> str:
        """The answers, a line for each."""
        return "\n".join(f"{each.name}: {each.outcome}. {each.words}" for each in self.findings)

    def as_dict(self) -> dict[str, Any]:
        """All that was found, as JSON holds it."""
        from medsal.evaluate.written import as_dict

        return as_dict(self)

    def plot(self) -> "matplotlib.figure.Figure":
        """The maps of the randomised network and of other classes, and the curves."""
        from medsal.evaluate.picture import picture

        return picture(self)

    def save(self, folder: str | Path, name: str = "scan") -> list[Path]:
        """Write ``<name>_desc-<method>_check.json`` and ``.png``; both or none."""
        from medsal.evaluate.written import save

        return save(self, Path(folder), name)


def check(
    model: nn.Module,
    image: Tensor,
    method: str | Explainer = "gradcam",
    target: Any = None,
    layer: str | Sequence[str] | None = None,
    *,
    steps: int = 4,
    repeats: int = 5,
    random_maps: int = 9,
    seed: int = 0,
    classes: Sequence[str] = (),
    forward_kwargs: Mapping[str, Any] | None = None,
    progress: Callable[[], None] | None = None,
    **options: Any,
) -> Check:
    """Is the map of this method true of this network, at this image?

    Four questions. Does the map change when the upper half of the layers gets random weights; when
    all do (`randomisation`)? Is it another one for another class (`target_sensitivity`)? Does the
    score follow it more than random maps of the same smoothness and values (`deletion`,
    `insertion`, `surrogates`)? Likeness is the rank correlation of voxels, with or without their
    sign: 0.1 or less, or what chance reaches, is passed; 0.5 or more failed (Cohen, 1988: small and
    large). Chance: 95 of 100 random maps; 95 of 100 means over as many draws of weights.

    What passes is not thereby right: a map may depend on the network and lie beside the lesion.

    Args:
        model: any module that `copy.deepcopy` can copy.
        image: ``(1, c, *s)``.
        method: a name in `METHODS`, or a method.
        target: what to explain, as in `medsal.explain`; one.
        layer: for methods that use one.
        steps: groups of layers that are randomised one after the other; an even number.
        repeats: how often weights are drawn; with fewer than 4, little can be told.
        random_maps: how many; to be better than all of 9 is a chance of 1 in 10.
        seed: of weights and random maps.
        classes: the names of the model's classes, for words.
        forward_kwargs: further arguments of the model's forward pass.
        progress: called `stages` times on the way.
        **options: of the method, when it is given by name.

    Raises:
        TypeError: when the model can't be copied.
        ValueError: for several samples or targets, or an option that is out of its range.
        LookupError: for a method, layer or class that does not exist.
    """
    for name, value in (("repeats", repeats), ("random_maps", random_maps), ("steps", steps)):
        check_count(name, value)
    if steps % 2:
        raise ValueError(f"expected an even number of steps, of which half are upper, got {steps}")
    if repeats < 2:
        raise ValueError("expected 2 repeats or more: from one draw no spread can be told, got 1")
    step = progress or _nothing
    chosen = configured(method, layer, options)
    result = explain(model, image, target, chosen, forward_kwargs=forward_kwargs)
    if result.data.shape[:2] != (1, 1):
        raise ValueError(
            f"expected one sample and one target, got {result.data.shape[0]} and "
            f"{result.data.shape[1]}; check them one by one"
        )
    step()
    return _tried(
        result,
        Probe(model, result.target, dict(forward_kwargs or {})),
        chosen,
        (steps, repeats, random_maps, seed),
        tuple(classes),
        step,
    )


def stages(random_maps: int = 9) -> int:
    """How often `check` calls ``progress``."""
    return 5 + random_maps


@quietly()
def _tried(
    result: SaliencyMap,
    probe: Probe,
    method: Explainer,
    counts: tuple[int, int, int, int],
    classes: tuple[str, ...],
    step: Callable[[], None],
) -> Check:
    steps, repeats, random_maps, seed = counts
    image, whole = plain(result.image), result.data
    layers = cascade(probe, image, method, whole, steps, [seed + 1000 * i for i in range(repeats)])
    step()
    random = list(surrogates(whole, random_maps, seed, rounds=2))
    mean, spread = by_chance(whole, random)
    step()
    rest = others(probe, image, method, whole)
    step()
    faithful = faith(probe, image, whole, random, _READ, step)
    figures = {
        "max_sensitivity": float(max_sensitivity(probe, image, method, samples=_NEAR)),
        "gini": float(gini(whole)),
    }
    findings = findings_of(result, layers, rest, faithful, mean + _Z * spread, classes)
    return Check(result, findings, layers, rest, faithful, figures, classes)


def _nothing() -> None:
    """No progress to tell."""
