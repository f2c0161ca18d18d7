"""What a suite comes to: cohorts of cells, each with an id that is a hash of what decides its result."""

from kdbench.plan.expansion import make_plan
from kdbench.plan.nodes import Cell, Cohort, Node, Plan
from kdbench.plan.steps import Compression, Loading, Training

__all__ = ["Cell", "Cohort", "Compression", "Loading", "Node", "Plan", "Training", "make_plan"]
