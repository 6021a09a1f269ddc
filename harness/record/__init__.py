"""Records: what a trial is (`spec`), did (the run folder's log) and came to (`result`) goes in and comes out as it was.

It holds the values that all rooms above share, and reads strictly. It may import machine.flags and errors; no jax.
"""
