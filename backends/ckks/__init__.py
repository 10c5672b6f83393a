"""CKKS: operations on encrypted slots, simulated or by Microsoft SEAL, behind one protocol."""
