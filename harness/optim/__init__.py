"""Update rules and schedules that optax lacks or gets differently from the reference; shared by submissions."""
