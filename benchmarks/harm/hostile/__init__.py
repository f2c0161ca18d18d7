"""Bad inputs by what they are put into; each module yields the trials of its groups."""
