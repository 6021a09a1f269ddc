"""A planted fault: no build."""


def make(task, hp):
    return None
