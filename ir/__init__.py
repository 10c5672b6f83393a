"""The IR: what an Einsum and a Cascade are, and what they mean. Imports no other room."""
