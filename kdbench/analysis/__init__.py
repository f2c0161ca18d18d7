"""Statistics of a finished run: intervals, paired tests, Pareto fronts. Reads records only, never torch."""
