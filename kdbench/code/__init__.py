"""Code of a user's own: found, read, imported apart from other folders', and told by its fingerprint."""
