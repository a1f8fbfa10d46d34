"""`python -m convx`."""

from convx.cli import main

main()
