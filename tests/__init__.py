"""Tests of medsal; a package, as installed libraries may bring one of the same name."""
