"""Rewrites: from Cascade to Cascade, the meaning kept."""
