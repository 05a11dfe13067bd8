"""Visiting a model and leaving it as it was: the only package that touches one."""

from medsal.probe.boxes import Box
from medsal.probe.card import ModelCard
from medsal.probe.graph import plain
from medsal.probe.layers import Layer, named_layer
from medsal.probe.probe import Probe
from medsal.probe.record import Record
from medsal.probe.replay import CleanPass
from medsal.probe.tapping import Tapped
from medsal.probe.visiting import quietly, unwrapped, visiting

__all__ = [
    "Box",
    "CleanPass",
    "Layer",
    "ModelCard",
    "Probe",
    "Record",
    "Tapped",
    "named_layer",
    "plain",
    "quietly",
    "unwrapped",
    "visiting",
]
