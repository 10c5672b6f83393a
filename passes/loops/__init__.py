"""Lowerings: from Cascade to LoopNest."""
