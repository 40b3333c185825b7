"""The command line: one file a command, with its arguments, what it calls and what it prints."""

from rehead.cli.command_line import main

__all__ = ["main"]
