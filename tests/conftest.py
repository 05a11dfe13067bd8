"""What all tests share: a fixed seed, and the sample data where it is there."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Small tensors gain nothing from several threads, and tests of threads start their own."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def seed() -> Iterator[None]:
    """The same random numbers for each test, whichever tests run before it."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.fixture
def nifti_reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Each NIfTI file that is read, as often as it is."""
    # Not above: annotations are checked in what is imported after this file.
    from medsal.scan import formats

    seen: list[Path] = []
    reader = formats.READERS["nifti"]

    def watched(path: Path) -> object:
        seen.append(path)
        return reader(path)

    monkeypatch.setitem(formats.READERS, "nifti", watched)
    return seen


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Sample scans beside the repository; tests that need them are skipped where they are not."""
    folder = Path(__file__).parents[1] / "../shared/data"
    if not folder.is_dir():
        pytest.skip("the sample scans are not here")
    return folder
