"""A device that is not the CPU, for machines without a GPU: `far.cpp`, built and made known."""

import subprocess
from pathlib import Path
from types import ModuleType

import torch
from torch.utils import cpp_extension


def build(folder: Path, compiler: str) -> Path:
    """The library, built in a folder.

    Raises:
        CalledProcessError: when the compiler fails.
    """
    library = folder / "far.so"
    abi = int(torch.compiled_with_cxx11_abi())
    order = [
        *(compiler, "-shared", "-fPIC", "-std=c++20", f"-D_GLIBCXX_USE_CXX11_ABI={abi}"),
        *(f"-I{each}" for each in cpp_extension.include_paths()),
        *(str(Path(__file__).with_suffix(".cpp")), "-o", str(library)),
        *(f"-L{each}" for each in cpp_extension.library_paths()),
        *("-lc10", "-ltorch_cpu"),
    ]
    subprocess.run(order, check=True)
    return library


def register(library: Path) -> None:
    """Make ``torch.device("far")`` known to this process, for good."""
    module = ModuleType("torch.far")
    state = torch.zeros(1, dtype=torch.uint8)
    answers = {
        "is_available": True, "device_count": 1, "current_device": 0, "is_initialized": True,
        "_is_in_bad_fork": False, "get_rng_state": state, "set_rng_state": None,
        "manual_seed_all": None,
    }  # fmt: skip
    for name, answer in answers.items():
        setattr(module, name, lambda *_, answer=answer: answer)
    torch.utils.rename_privateuse1_backend("far")
    torch._register_device_module("far", module)
    torch.ops.load_library(str(library))
    torch.utils.generate_methods_for_privateuse1_backend()
