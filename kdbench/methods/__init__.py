"""How a student is made: one small file a method, all under the contract of ``base``."""

from kdbench.methods.base import Distiller, Method, Pair, Parameters, Refusal, find_method, method, methods

__all__ = ["Distiller", "Method", "Pair", "Parameters", "Refusal", "find_method", "method", "methods"]
