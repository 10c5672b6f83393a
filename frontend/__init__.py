"""From text and Python to a Cascade."""
