"""When the outer loop acts: the one place that counts in multiples."""


def is_due(step: int, every_steps: int) -> bool:
    """Whether something done every `every_steps` (0: never) is due after `step` steps."""
    return step > 0 and every_steps > 0 and step % every_steps == 0


def next_due(step: int, every_steps: int) -> int:
    """The first step after `step` at which it is due."""
    return (step // every_steps + 1) * every_steps
