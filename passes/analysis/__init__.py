"""Analyses: from Cascade to a report that prints itself."""
