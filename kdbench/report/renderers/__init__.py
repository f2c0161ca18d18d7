"""The forms of a report and of its tables, one file each; none knows a section."""
