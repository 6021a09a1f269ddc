"""A planted fault: build returns neither a transformation nor an Algorithm."""


def build(task, hp):
    return {"init": None, "update": None}
