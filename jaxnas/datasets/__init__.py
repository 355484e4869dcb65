"""Data that travels with the package: the handwritten digits, see README.md for their origin and licence."""
