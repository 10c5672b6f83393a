"""Cascades that need fewer passes: reductions deferred, repaired as they run, and merged."""
