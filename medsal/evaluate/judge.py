"""From figures to findings: what they mean, in plain words."""

from collections.abc import Sequence
from dataclasses import replace

from medsal.evaluate.finding import LARGE, SMALL, Finding, Outcome, lead, likeness
from medsal.evaluate.trials import Cascade, Faith, Others
from medsal.result import SaliencyMap

# What is known of methods from the literature; said where this network shows it.
_KNOWN = {
    "guided_backprop": "Guided Backpropagation",
    "deconvnet": "The deconvolutional network's rule",
    "guided_gradcam": "Guided Backpropagation, which is a factor of this map,",
}
_EDGES = (
    "{} is known for it: it hardly depends on the class or on the weights, and shows edges of the "
    "image (Adebayo et al., 2018, arXiv:1810.03292; Nie et al., 2018, arXiv:1805.07039). It is no "
    "map to judge a network by."
)


def findings_of(
    result: SaliencyMap,
    cascade: Cascade,
    others: Others | None,
    faith: Faith,
    chance: float,
    classes: Sequence[str],
) -> tuple[Finding, ...]:
    """The answers to the questions of a check.

    Args:
        result: the map.
        cascade: under randomisation.
        others: of other classes.
        faith: the curves.
        chance: how alike 95 of 100 random maps are to the map at most.
        classes: the names of the model's classes.
    """
    if not bool(result.data.any()):
        empty = "The map is empty: it says nothing, which is neither true nor false."
        return (Finding("map", "undecided", None, None, empty),)
    known = _KNOWN.get(getattr(result.method, "name", ""))
    half = len(cascade.layers) // 2
    found = [
        _layers("upper layers", "the upper half of its layers", cascade, half, chance),
        _layers("all layers", "all its layers", cascade, len(cascade.layers), chance),
    ]
    if others is not None and others.classes:
        found.append(_classes(others, chance, classes))
    return (*_with_source(found, known), _faith(faith))


def _layers(name: str, which: str, cascade: Cascade, steps: int, chance: float) -> Finding:
    value = float(cascade.alike[steps - 1])
    chance = max(chance, float(cascade.accident[steps - 1]))
    outcome = likeness(value, chance)
    said = {
        "passed": "becomes another one: it depends on what the network learned",
        "partly": "changes, but stays more alike than it should",
        "failed": "stays largely the same: it shows the image more than the network",
        "undecided": "can't be told from a random one: it is too smooth",
    }[outcome]
    words = f"With random weights in {which}, the map {said}. {_scale(value, chance)}"
    return Finding(name, outcome, value, chance, words)


def _classes(others: Others, chance: float, classes: Sequence[str]) -> Finding:
    value = max(others.rank)
    index = others.classes[others.rank.index(value)]
    name = classes[index] if index < len(classes) else f"class {index}"
    outcome = likeness(value, chance)
    said = {
        "passed": "is another one: it depends on what is asked",
        "partly": "differs, but is more alike than it should be",
        "failed": "is largely the same: it hardly depends on the class",
        "undecided": "can't be told from a random one: both are too smooth",
    }[outcome]
    words = f"The map for {name}, the most similar one, {said}. {_scale(value, chance)}"
    return Finding("other classes", outcome, value, chance, words)


def _scale(value: float, chance: float) -> str:
    return (
        f"Rank correlation {value:.2f}; passed up to {max(SMALL, chance):.2f} ({SMALL:g}, or what "
        f"chance reaches in 95 of 100), failed from {LARGE:g}."
    )


def _faith(faith: Faith) -> Finding:
    name = "faithfulness"
    if not faith.defined:
        words = (
            "Not to be told: the blurred image scores no lower than the scan itself, so that "
            "nothing is lost where it is hidden."
        )
        return Finding(name, "undecided", None, None, words)
    value, best = faith.value, max(faith.random)
    outcome: Outcome = lead(value, list(faith.random))
    said = {
        "passed": "more than any",
        "partly": "more than most, not more than all",
        "failed": "no more than half",
    }[outcome]
    words = (
        f"The score follows the map {said} of {len(faith.random)} random maps as smooth: area of "
        f"insertion {float(faith.insertion.normalised):.2f} less that of deletion "
        f"{float(faith.deletion.normalised):.2f} is {value:.2f}, of random maps up to {best:.2f}. "
        f"(0 = the blurred image's score, 1 = the scan's.)"
    )
    return Finding(name, outcome, value, best, words)


def _with_source(found: list[Finding], known: str | None) -> list[Finding]:
    """Where a method shows what is known of it, that is said with the last answer that shows it."""
    shown = [i for i, each in enumerate(found) if each.outcome in ("failed", "partly")]
    if known is None or not shown:
        return found
    last = found[shown[-1]]
    words = f"{last.words} {_EDGES.format(known)}"
    return [*found[: shown[-1]], replace(last, words=words), *found[shown[-1] + 1 :]]
