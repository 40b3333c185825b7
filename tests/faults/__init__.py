"""What becomes of a long command, and of what it wrote, when a machine fails it. `make faults` tries them all.

A trial runs the real command on tiny models in a process of its own, lets one fault happen to it, looks at what lies
under the output's name, runs the command again, and looks once more.
"""
