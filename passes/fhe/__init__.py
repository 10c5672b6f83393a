"""Einsums on encrypted vectors: Cascade -> SlotProgram."""
