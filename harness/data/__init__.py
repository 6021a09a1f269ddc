"""Data: which example comes when, and the sets themselves."""
