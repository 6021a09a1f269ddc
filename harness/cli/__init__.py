"""The command line: words typed come in, calls of the rooms below and an exit code go out, one module a command.

It holds no logic and may import every room, but neither jax nor Hydra; a command imports what it needs when it is
called.
"""
