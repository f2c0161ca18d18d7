"""The compressors: one file each."""
