"""The NumPy backend: readable Python source that runs on its own."""
