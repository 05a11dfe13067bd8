"""Run the tutorials and keep them as notebooks: `python tutorials/notebooks.py [FOLDER]`."""

import sys
from pathlib import Path

import jupytext
from nbclient import NotebookClient

HERE = Path(__file__).parent


def main(folder: Path) -> None:
    """Write an executed notebook of each tutorial, with the pictures that its text shows."""
    work = folder / "work"
    work.mkdir(parents=True, exist_ok=True)
    for path in sorted(HERE.glob("[0-9]*.py")):
        notebook = jupytext.read(path)
        notebook.metadata["kernelspec"] = {
            "name": "python3",
            "display_name": "Python 3",
            "language": "python",
        }
        NotebookClient(notebook, resources={"metadata": {"path": str(work)}}).execute()
        jupytext.write(notebook, folder / f"{path.stem}.ipynb")
        print(folder / f"{path.stem}.ipynb")
    (folder / "images").mkdir(exist_ok=True)
    for path in (HERE / "images").iterdir():
        (folder / "images" / path.name).write_bytes(path.read_bytes())


if __name__ == "__main__":
    main(Path(*sys.argv[1:2] or ["notebooks"]))
