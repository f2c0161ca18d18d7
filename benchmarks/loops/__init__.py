"""The training loops that ``speed.py`` times against one another, and the limits they are held against."""
