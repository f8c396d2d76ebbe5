"""Finds libhone_kernels.so and registers its ops as torch.ops.hone.*."""

import os
import pathlib

import torch

_NAME = "libhone_kernels.so"
_VARIABLE = "HONE_KERNELS_LIBRARY"


def _candidates() -> list[pathlib.Path]:
    """Where the library may be, first match wins."""
    here = pathlib.Path(__file__).resolve().parent
    places = [here / _NAME, here / "lib" / _NAME]  # installed: beside or below the package
    if "HONE_BINARY_DIR" in os.environ:  # a build elsewhere
        places.append(pathlib.Path(os.environ["HONE_BINARY_DIR"]) / "lib" / _NAME)
    if len(here.parents) > 2:  # the source tree: kernels/python/hone_kernels
        places.append(here.parents[2] / "build" / "lib" / _NAME)
    return places


def find() -> pathlib.Path:
    """Path of libhone_kernels.so: the file that HONE_KERNELS_LIBRARY names, else one beside this
    package, under HONE_BINARY_DIR/lib or under build/lib of the source tree.

    Raises ImportError that lists where it looked."""
    named = os.environ.get(_VARIABLE)
    places = [pathlib.Path(named)] if named else _candidates()
    for place in places:
        if place.is_file():
            return place
    looked = "\n".join(f"  {place}" for place in places)
    hint = "build target hone_kernels" if not named else f"correct {_VARIABLE}"
    raise ImportError(f"{_NAME}: expected a file at one of\n{looked}\ngot none; {hint}, or set "
                      f"{_VARIABLE} to its path")


def load() -> pathlib.Path:
    """Registers the ops, and their CUDA halves where torch sees a GPU and the library for it lies
    beside this one. Returns the path of the library."""
    path = find()
    try:
        torch.ops.load_library(path)
        cuda = path.with_name("libhone_kernels_cuda.so")
        if torch.cuda.is_available() and cuda.is_file():
            torch.ops.load_library(cuda)
    except OSError as error:
        raise ImportError(f"{path}: expected a library built against torch {torch.__version__}, "
                          f"got: {error}") from error
    return path
