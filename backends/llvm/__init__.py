"""The LLVM backend: from LoopNest to native code."""
