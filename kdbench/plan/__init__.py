"""What a suite comes to: cohorts of cells, each with an id that is a hash of what decides its result."""

from kdbench.plan.cells import Cell, Cohort, Plan, TeacherPlan
from kdbench.plan.expansion import make_plan

__all__ = ["Cell", "Cohort", "Plan", "TeacherPlan", "make_plan"]
