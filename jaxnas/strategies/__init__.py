"""How it is searched: the slots of a strategy, and the table of algorithms that name them."""
