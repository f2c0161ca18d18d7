"""The sections of a report, one file each.

A section is a function of a `Summary`, registered by ``@section`` (see `kdbench.report.registry`), that gives
the blocks which it consists of (see `kdbench.report.blocks`).
"""
