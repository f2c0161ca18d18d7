"""``python -m kdbench``: the command line, where the script is not installed."""

from kdbench.cli import main

main()
