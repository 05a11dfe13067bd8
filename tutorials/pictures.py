"""Make the README's picture again: `python tutorials/pictures.py`."""

from pathlib import Path
from tempfile import TemporaryDirectory

from medsal.demo import BUNDLE, SCAN
from medsal.export import save_case
from medsal.monai import load_bundle
from medsal.scan import read

with TemporaryDirectory() as folder:
    bundle, scan = load_bundle(BUNDLE), read(SCAN)
    files = save_case([bundle.explain(scan).home()], scan, folder, classes=bundle.classes)
    (picture,) = (path for path in files if path.suffix == ".png")
    picture.rename(Path(__file__).parent / "images" / "demo_gradcam.png")
