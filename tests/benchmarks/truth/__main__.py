"""The benchmark in stages; what is done is kept in a folder, so that it can be continued.

`python -m tests.benchmarks.truth -o FOLDER` trains the networks, measures where their maps lie and
how the methods compare, and writes `tutorials/truth.md` with its table and pictures.
`--stage page` writes the page again from the figures that lie beside it, without the folder.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from tests.benchmarks.truth import comparing, demo, networks, page, placing, scenes, tables
from tests.benchmarks.truth.networks import Recipe

#: In the order in which they are trained and measured.
RECIPES = (
    Recipe(demo.NAME, cases=20, compared=9),
    Recipe("ResNet18 stem 2", compared=3),
    Recipe("DenseNet121", compared=3),
    Recipe("ResNet10 stem 2", compared=6),
    Recipe("ResNet10 stem 1", cases=12),
    Recipe("ResNet10 stem 2", flips=False),
    Recipe("ResNet10 stem 2", flips=False, lopsided=True),
    Recipe("ResNet10 stem 2", 1, compared=4),
    Recipe("DenseNet121", 1, cases=12),
    Recipe("ResNet18 stem 2", 1),
    Recipe("ResNet10 stem 1", 1, cases=12),
    Recipe("ResNet10 stem 2", 1, flips=False),
    Recipe("ResNet50 stem 2"),
    Recipe(demo.NAME, lopsided=True, cases=12),
)
STAGES = ("train", "place", "compare", "page")
#: Lesions of the demo network; its own evaluation (`medsal.demo.evaluate`) has more.
ACCURACY_OF_DEMO = 24
TUTORIALS = Path(__file__).parents[3] / "tutorials"


def say(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


@contextmanager
def timed(name: str, folder: Path, stage: str) -> Iterator[None]:
    """Put down what a part of the benchmark takes [CPU s]."""
    began = time.process_time()
    yield
    row = {"network": name, "stage": stage, "seconds": time.process_time() - began}
    tables.save(folder / f"{networks.file_of(name)}.time_{stage}.json", [row])


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
        with timed("scans", path.parent, path.stem):
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
    with timed(recipe.name, folder, "accuracy"):
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
    return path.is_file() and tables.load(path)[0]["accuracy"] >= networks.ACCURATE


def network(recipe: Recipe, folder: Path) -> tuple[nn.Module, float]:
    """A network, trained unless it is there, and its training's time [CPU s]."""
    if recipe.family == demo.NAME:
        return demo.build(), 0.0
    return networks.trained(recipe, lambda: stacks(folder, recipe.lopsided), folder, say)


def place(recipe: Recipe, folder: Path, most: int) -> None:
    """Measure where a network's maps lie, on `most` lesions at most."""
    path = folder / f"{recipe.file}.place.json"
    if path.is_file() or not usable(recipe, folder):
        return
    say(f"{recipe.name}: where its maps lie")
    with timed(recipe.name, folder, "place"):
        net, _ = network(recipe, folder)
        cases = min(recipe.cases, most)
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


def compare(recipe: Recipe, folder: Path, most: int) -> None:
    """Compare all methods on one network, case by case, on `most` lesions at most."""
    if not usable(recipe, folder):
        return
    net, _ = network(recipe, folder)
    for i in range(min(recipe.compared, most)):
        path = folder / f"{recipe.file}.compare{i}.json"
        if path.is_file():
            continue
        say(f"{recipe.name}: all methods, case {i}")
        with timed(recipe.name, folder, f"compare{i}"):
            tables.save(path, list(comparing.compared(recipe, net, i)))


def main(argv: list[str] | None = None) -> None:
    """Run the stages that were asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.truth", description=__doc__)
    parser.add_argument("-o", "--out", type=Path, default=Path("truth"), metavar="FOLDER")
    parser.add_argument("--stage", choices=STAGES, action="append", help="default: all of them")
    parser.add_argument("--network", type=int, action="append", help="default: all, in this order")
    parser.add_argument(
        "--most", type=int, default=sys.maxsize, metavar="N", help="at most N lesions, to try it"
    )
    parser.add_argument("--page", type=Path, default=TUTORIALS, metavar="FOLDER")
    args = parser.parse_args(argv)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads())))
    stages = args.stage or STAGES
    chosen = [RECIPES[i] for i in args.network] if args.network else list(RECIPES)
    args.out.mkdir(parents=True, exist_ok=True)
    for recipe in chosen:
        if "train" in stages:
            train(recipe, args.out)
        if "place" in stages:
            place(recipe, args.out, args.most)
        if "compare" in stages:
            compare(recipe, args.out, args.most)
    if "page" in stages:
        tables.gather(args.out, args.page)
        page.write(args.page)
        say(f"written: {args.page / 'truth.md'}")


if __name__ == "__main__":
    main()
