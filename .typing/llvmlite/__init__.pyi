"""llvmlite carries no types: this is the part of it that einloom uses, as of llvmlite 0.50."""

__version__: str
