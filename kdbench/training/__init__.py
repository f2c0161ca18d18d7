"""The cohort engine: one teacher pass, many students."""
