"""`python -m rehead.cli` is the `rehead` command."""

from rehead.cli import main

main()
