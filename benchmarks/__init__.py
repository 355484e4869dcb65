"""How fast, how large, how soon: a search step measured beside what its machine can do and a peer in PyTorch.

`python -m benchmarks --help`. Not installed with the package; PyTorch is needed for the peer only.
"""
