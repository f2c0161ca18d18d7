"""Where datasets come from: one file a source, found by itself; see ``kdbench.data.registry.source``."""
