"""Lesions of known place in real MR anatomy, networks that tell them apart, and where maps lie.

`python -m tests.benchmarks.truth -o FOLDER` does it all; `tutorials/truth.md` is what it found.
"""
