"""Trained students as files that other programs run: ONNX, a program of torch.export, bare weights."""

from kdbench.exporting.cell import TrainedStudent, find_cell, trained_student
from kdbench.exporting.export import FORMATS, Exported, export

__all__ = ["FORMATS", "Exported", "TrainedStudent", "export", "find_cell", "trained_student"]
