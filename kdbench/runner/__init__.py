"""Carrying out a plan: teachers, costs, then cohort by cohort; what is finished is never done again."""

from kdbench.runner.execution import Outcome, run

__all__ = ["Outcome", "run"]
