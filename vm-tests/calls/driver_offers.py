"""Holds our driver against what scenarios may call: it is type-checked, and never run."""

import ours
from machine import Machine


def offers(machine: Machine) -> ours.Machine:
    return machine
