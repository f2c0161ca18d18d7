"""What harms a run, and whether kdbench withstands it: kills, damage, bad inputs; used by faults.py."""
