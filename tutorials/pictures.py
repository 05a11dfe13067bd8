"""Make the pages' pictures again: `python tutorials/pictures.py`.

`images/slicer.png` needs 3D Slicer's library: MEDSAL_SLICER_PYTHON names a Python that has it.
"""

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

from medsal.demo import BUNDLE, SCAN
from medsal.export import save_case
from medsal.monai import load_bundle
from medsal.scan import read
from medsal.view import animate, compare

IMAGES = Path(__file__).parent / "images"
READER = Path(__file__).parents[1] / "tests" / "export" / "read_in_slicer.py"
HOW = ("gradient", "guided_backprop", "gradcam", "guided_gradcam")
RING, BRIGHT = 2, 1


def how_it_works() -> None:
    """Each method of the page alone, and three of them for two classes."""
    bundle, scan = load_bundle(BUNDLE), read(SCAN)
    image = bundle.prepare(scan)
    for method in HOW:
        result = bundle.explain(scan, RING, method, image=image)
        figure = result.plot(title=method, classes=bundle.classes)
        figure.savefig(IMAGES / f"how_{method}.png", dpi=90)
    both = [bundle.explain(scan, [RING, BRIGHT], method, image=image) for method in HOW[1:]]
    compare(both, classes=bundle.classes).savefig(IMAGES / "how_classes.png", dpi=90)


def front_page() -> None:
    """What `medsal demo` shows, still and as a flight through the head."""
    bundle, scan = load_bundle(BUNDLE), read(SCAN)
    result = bundle.explain(scan).home()
    with TemporaryDirectory() as folder:
        files = save_case([result], scan, folder, classes=bundle.classes, outputs=("png",))
        (picture,) = (path for path in files if path.suffix == ".png")
        picture.rename(IMAGES / "demo_gradcam.png")
    film = IMAGES / "demo_gradcam.gif"
    animate(result, film, classes=bundle.classes, slices=36, seconds=5, dpi=60)


def cat_and_dog() -> None:
    """The first tutorial's two animations, one after the other."""
    with TemporaryDirectory() as folder:
        tutorial = Path(__file__).parent / "01_cat_or_dog.py"
        subprocess.run([sys.executable, str(tutorial)], cwd=folder, check=True)
        frames = []
        for name in ("tabby", "malamute"):
            with Image.open(Path(folder) / f"{name}.gif") as film:
                for k in range(film.n_frames):
                    film.seek(k)
                    frame = film.convert("RGB")
                    frames.append(frame.resize((frame.width * 6 // 10, frame.height * 6 // 10)))
    first, *rest = (each.quantize(128) for each in frames)
    target = IMAGES / "cat_and_dog.gif"
    first.save(target, save_all=True, append_images=rest, duration=120, loop=0)


def slicer(python: str) -> None:
    """The three slice views of the scene, as 3D Slicer draws them."""
    bundle, scan = load_bundle(BUNDLE), read(SCAN)
    with TemporaryDirectory() as folder:
        case = Path(folder) / "case.mrb"
        bundle.explain(scan).home().save(case, classes=bundle.classes)
        subprocess.run([python, str(READER), str(case), folder], check=True)
        views = [Image.open(Path(folder) / f"{name}.png") for name in ("Red", "Yellow", "Green")]
    page = Image.new("RGB", (sum(each.width for each in views) + 16, views[0].height))
    for k, each in enumerate(views):
        page.paste(each, (k * (each.width + 8), 0))
    page.save(IMAGES / "slicer.png")


if __name__ == "__main__":
    front_page()
    how_it_works()
    cat_and_dog()
    if python := os.environ.get("MEDSAL_SLICER_PYTHON"):
        slicer(python)
    else:
        sys.stderr.write("MEDSAL_SLICER_PYTHON is not set: images/slicer.png stays as it is\n")
