"""einloom: an einsum-centred tensor compiler."""
