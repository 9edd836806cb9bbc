"""How a setting is declared: its default, help and range, and whether it may change on resume, in one line.

A setting is a field of a dataclass (`config.TrainConfig`) whose metadata says all of that.
"""

import dataclasses
import typing
from typing import Any

from p2p_keras.errors import UserError

_RULES = ("choices", "at_least", "above", "below")


def setting(
    default: Any,
    help: str,
    *,
    meaning: str = "",
    choices: tuple = (),
    at_least: float | None = None,
    above: float | None = None,
    below: float | None = None,
    free: bool = False,
) -> Any:
    """Declares a setting.

    Args:
        default: Its value where nothing else is said; None and "" are filled in later, or mean that there is none.
        help: What `--help` says, but for the default.
        meaning: What `--help` says beside the default, or in place of one that is filled in later.
        choices: All allowed values, if they are few.
        at_least: Lowest allowed number.
        above: Number below all that are allowed.
        below: Number above all that are allowed.
        free: A resumed run may change it: it decides how often a run writes or how long it goes on, never what it has
            computed so far.
    """
    rule = {"choices": choices, "at_least": at_least, "above": above, "below": below}
    return dataclasses.field(default=default, metadata={"help": help, "meaning": meaning, "free": free, **rule})


def setting_type(config: type, field: dataclasses.Field) -> type:
    """The type of a setting: `str`, `bool`, `int`, `float`, `Size`, or `tuple` for several with commas between."""
    hint = typing.get_type_hints(config)[field.name]
    hints = [hint] if typing.get_origin(hint) is tuple else typing.get_args(hint) or [hint]
    kind = next(kind for kind in hints if kind is not type(None))
    return typing.get_origin(kind) or kind


def check_values(config: Any) -> None:
    """Checks every setting of a dataclass by its own range; what is not filled in yet is none.

    Raises:
        UserError: A value breaks its rule; names the flag.
    """
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if value not in (None, ""):
            check_value(field.name, value, **{rule: field.metadata[rule] for rule in _RULES})


def check_value(
    name: str,
    value: Any,
    choices: tuple = (),
    at_least: float | None = None,
    above: float | None = None,
    below: float | None = None,
) -> Any:
    """The value, if it is one of those allowed; the arguments are those of `setting`.

    Raises:
        UserError: It is not.
    """
    if choices and value not in choices:
        raise UserError(f"--{name} must be one of {', '.join(map(str, choices))}. Received: {value}")
    limits = {
        f"at least {at_least}": at_least is None or value >= at_least,
        f"above {above}": above is None or value > above,
        f"below {below}": below is None or value < below,
    }
    if not all(limits.values()):  # which a number that is none, NaN, does not keep either
        stated = [text for text in limits if not text.endswith(" None")]
        raise UserError(f"--{name} must be {' and '.join(stated)}. Received: {value}")
    return value
