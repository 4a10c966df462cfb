"""Kernels of other libraries: one file a library, which offers its variants as `PEERS`, a mapping of names to peers.

A file here is found by being here. The names are its literal keys, so that a config is checked without importing it.
"""
