"""From Cascade to Cascade, and down to the forms backends consume."""
