"""The models that kdbench brings: a family a file."""
