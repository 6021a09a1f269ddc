"""A planted fault: build raises."""


def build(task, hp):
    return hp["momentum"]
