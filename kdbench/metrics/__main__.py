"""``python -m kdbench.metrics``: write the table of all metrics into the README.md of the package."""

from kdbench.metrics.document import write

if __name__ == "__main__":
    print(f"Wrote {write()}")
