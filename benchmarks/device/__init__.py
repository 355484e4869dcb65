"""What a GPU does with the programs of this package, in minutes: `python -m benchmarks.device --help`."""
