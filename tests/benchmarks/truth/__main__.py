"""The benchmark in stages; what is done is kept in a folder, so that it can be continued.

`python -m tests.benchmarks.truth -o FOLDER` trains the networks, measures where their maps lie and
how the methods compare, and writes `tutorials/truth.md` with its table and pictures.
`--stage page` writes the page again from the figures that lie beside it, without the folder.
"""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from tests.benchmarks.truth import comparing, demo, networks, page, placing, scenes, tables
from tests.benchmarks.truth.networks import Recipe

#: In the order in which they are trained and measured.
RECIPES = (
    Recipe(demo.NAME),
    Recipe("ResNet18 stem 2"),
    Recipe("DenseNet121"),
    Recipe("ResNet10 stem 2"),
    Recipe("ResNet10 stem 1"),
    Recipe("ResNet10 stem 2", flips=False),
    Recipe("ResNet10 stem 2", flips=False, lopsided=True),
    Recipe("DenseNet121", flips=False),
    Recipe("ResNet10 stem 2", 1),
    Recipe("DenseNet121", 1),
    Recipe("ResNet18 stem 2", 1),
    Recipe("DenseNet121", flips=False, lopsided=True),
    Recipe("ResNet10 stem 1", 1),
    Recipe("ResNet10 stem 2", 1, flips=False),
    Recipe("ResNet10 stem 2", 1, flips=False, lopsided=True),
    Recipe("DenseNet121", 1, flips=False),
    Recipe("ResNet50 stem 2"),
    Recipe(demo.NAME, lopsided=True),
)
STAGES = ("train", "place", "compare", "page")
#: Networks that are right less often are shown, and not used for localisation.
ACCURATE = 0.9
#: Lesions of the demo network; its own evaluation (`medsal.demo.evaluate`) has more.
ACCURACY_OF_DEMO = 24
TUTORIALS = Path(__file__).parents[3] / "tutorials"


def say(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def stacks(folder: Path, lopsided: bool) -> dict[str, Tensor]:
    """The scans for training, made once."""
    return _once(
        folder / f"train_{lopsided}.pt",
        lambda: networks.scans(networks.LESIONS, networks.SEED, lopsided),
    )


def held_out(folder: Path, lopsided: bool) -> dict[str, Tensor]:
    """The scans of a head that training never sees, made once."""
    return _once(
        folder / f"test_{lopsided}.pt",
        lambda: networks.scans(48, scenes.SEED_OF_CASES, lopsided, heads=(scenes.HELD_OUT,)),
    )


def _once(path: Path, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    if not path.is_file():
        say(f"making {path.name}")
        part = path.with_suffix(".part")
        torch.save(make(), part)
        part.rename(path)
    stored: dict[str, Tensor] = torch.load(path, weights_only=True)
    return stored


def accuracy(net: nn.Module, stack: dict[str, Tensor]) -> float:
    """How often a network is right on scans with lesions of all kinds: of both kinds at once."""
    common, half = stack["common"].float(), stack["half"].float()
    right = []
    for kind, sign in enumerate(scenes.SIGNS):
        wanted = networks.labels_of([kind] * len(common)) > 0
        right.append(((networks.outputs(net, common + sign * half) > 0) == wanted).all(1))
    return float(torch.cat(right).float().mean())


def train(recipe: Recipe, folder: Path) -> None:
    """Train a network, unless it is there, and put down how often it is right."""
    path = folder / f"{recipe.file}.train.json"
    if path.is_file():
        return
    net, seconds = network(recipe, folder)
    if recipe.family == demo.NAME:
        cases = [networks.measured(recipe, i) for i in range(ACCURACY_OF_DEMO)]
        said = [networks.right(net, each.image[None], each.label) for each in cases]
        right = sum(said) / len(said)
    else:
        right = accuracy(net, held_out(folder, recipe.lopsided))
    say(f"{recipe.name}: {right:.3f} right, {seconds:.0f} s")
    row = {"network": recipe.name, "group": recipe.group, "accuracy": right, "seconds": seconds}
    tables.save(path, [row])


def usable(recipe: Recipe, folder: Path) -> bool:
    """Whether a network is there and right often enough."""
    path = folder / f"{recipe.file}.train.json"
    return path.is_file() and tables.load(path)[0]["accuracy"] >= ACCURATE


def network(recipe: Recipe, folder: Path) -> tuple[nn.Module, float]:
    """A network, trained unless it is there, and its training's time [CPU s]."""
    if recipe.family == demo.NAME:
        return demo.build(), 0.0
    return networks.trained(recipe, lambda: stacks(folder, recipe.lopsided), folder, say)


def place(recipe: Recipe, folder: Path, cases: int) -> None:
    """Measure where a network's maps lie."""
    path = folder / f"{recipe.file}.place.json"
    if path.is_file() or not usable(recipe, folder):
        return
    say(f"{recipe.name}: where its maps lie")
    net, _ = network(recipe, folder)
    found = placing.shifts(recipe, net, cases)
    head = {"network": recipe.name, "case": -1}
    rows = [{**head, "map": name, **each} for name, each in found.items()]
    for i in range(cases):
        case = networks.measured(recipe, i)
        if not networks.right(net, case.image[None], case.label):
            continue
        head = {"network": recipe.name, "group": recipe.group, "case": i}
        rows += [{**head, **row} for row in placing.placed(recipe, net, case, found)]
    tables.save(path, rows)


def compare(recipe: Recipe, folder: Path, cases: int) -> None:
    """Compare all methods on one network, case by case."""
    if not usable(recipe, folder):
        return
    net, _ = network(recipe, folder)
    for i in range(cases):
        path = folder / f"{recipe.file}.compare{i}.json"
        if not path.is_file():
            say(f"{recipe.name}: all methods, case {i}")
            tables.save(path, list(comparing.compared(recipe, net, i)))


def main(argv: list[str] | None = None) -> None:
    """Run the stages that were asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.truth", description=__doc__)
    parser.add_argument("-o", "--out", type=Path, default=Path("truth"), metavar="FOLDER")
    parser.add_argument("--stage", choices=STAGES, action="append", help="default: all of them")
    parser.add_argument("--network", type=int, action="append", help="default: all, in this order")
    parser.add_argument("--cases", type=int, default=24, help="lesions of each network [24]")
    parser.add_argument("--compared", type=int, default=8, help="lesions for all methods [8]")
    parser.add_argument("--of", type=int, default=3, help="networks for all methods [3]")
    parser.add_argument("--page", type=Path, default=TUTORIALS, metavar="FOLDER")
    args = parser.parse_args(argv)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads())))
    stages = args.stage or STAGES
    chosen = [RECIPES[i] for i in args.network] if args.network else list(RECIPES)
    args.out.mkdir(parents=True, exist_ok=True)
    for recipe in chosen if "train" in stages else []:
        train(recipe, args.out)
    for recipe in chosen if "place" in stages else []:
        place(recipe, args.out, args.cases)
    for recipe in chosen[: args.of] if "compare" in stages else []:
        compare(recipe, args.out, args.compared)
    if "page" in stages:
        tables.gather(args.out, args.page)
        page.write(args.page)
        say(f"written: {args.page / 'truth.md'}")


if __name__ == "__main__":
    main()
