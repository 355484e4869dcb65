"""`python -m jaxnas` is `jaxnas`."""

from jaxnas.cli import main

main()
