"""What may be built: spaces, their operations and networks, and the genotypes that a search returns."""
