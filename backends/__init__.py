"""What runs a program: one folder a backend, loaded by name when asked for."""
