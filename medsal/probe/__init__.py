"""Visiting a model and leaving it as it was: the only package that touches one."""

from medsal.probe.gradients.graph import plain
from medsal.probe.probe import Probe
from medsal.probe.replays.boxes import Box
from medsal.probe.replays.replay import CleanPass
from medsal.probe.taps.layers import Layer, named_layer
from medsal.probe.taps.record import Record
from medsal.probe.taps.tapping import Tapped
from medsal.probe.visits.card import ModelCard
from medsal.probe.visits.visiting import quietly, unwrapped, visiting

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
