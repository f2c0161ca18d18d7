"""A suite: what to run, as one YAML file whose parts are checked field by field."""

from kdbench.suite.suite import (
    Suite,
    describe_mistake,
    folder_of_paths,
    own_of,
    suite_file,
    suite_folder,
    suite_names,
)

__all__ = [
    "Suite",
    "describe_mistake",
    "folder_of_paths",
    "own_of",
    "suite_file",
    "suite_folder",
    "suite_names",
]
