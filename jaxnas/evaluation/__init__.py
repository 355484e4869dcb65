"""How it is judged: what a genotype costs and how good it is."""
