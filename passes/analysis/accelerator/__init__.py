"""The accelerator model: time, traffic and utilisation of a cascade bound to arrays of PEs."""
