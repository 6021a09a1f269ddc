"""DoG: SGD whose rate follows from the distance gone; evaluated at its average. No schedule, no decay."""

from harness.api import Algorithm, TaskView
from harness.optim.dog import dog, dog_eval_params
from harness.optim.evaluation import evaluated_at


def build(task: TaskView, hp) -> Algorithm:
    transform = dog(
        hp["reps_rel"],
        hp["eps"],
        hp["learning_rate"],
        layer_wise=hp["layer_wise"],
        param_info=task.param_info,
        gamma=hp["gamma"],
    )
    return evaluated_at(transform, dog_eval_params, hp["recalibration_batches"] if task.has_model_state else 0)
