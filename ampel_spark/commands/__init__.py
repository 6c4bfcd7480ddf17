"""What the command line does: one function for each command, and how its answers are printed.

Nothing heavy is imported before it is needed, so that commands which only read answer at once.
"""
