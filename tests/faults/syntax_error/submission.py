"""A planted fault: this file does not parse."""


def build(task, hp)
    return None
