"""How a setting is declared: its default, help and range, and whether it may change on resume, in one line.

A setting is a field of a dataclass (`config.TrainConfig`) whose metadata says all of that.
"""

import dataclasses
import functools
import math
import typing
from typing import Any

from p2p_keras.errors import UserError
from p2p_keras.sizes import Size, to_size

_RULES = ("choices", "at_least", "above", "below")
_LARGEST = 2**63  # what TensorFlow counts with, and far more than anything is
_WORDS = {
    str: "a text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    Size: "a size",
    tuple[str, ...]: "names",
    tuple[int, ...]: "whole numbers",
    type(None): "none",
}


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
    kind = next(kind for kind in _types_of(config)[field.name] if kind is not type(None))
    return typing.get_origin(kind) or kind


def check_values(config: Any) -> None:
    """Checks every setting of a dataclass by its type and its own range; what is not filled in yet has no range.

    Raises:
        UserError: A value breaks its rule; names the flag.
    """
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        _check_type(field.name, value, _types_of(type(config))[field.name])
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


def read_size(name: str, value: object) -> Size | None:
    """A size from a number, a text as 256x512, or height and width.

    Raises:
        UserError: It is none of them.
    """
    try:
        return None if value is None else to_size(value)
    except (ValueError, TypeError) as error:
        raise UserError(f"--{name} is one number, or height and width as 256x512. Received: {value}") from error


def read_numbers(name: str, value: object) -> tuple[int, ...] | None:
    """One number, or several, also as texts; what is no whole number stays, for `check_values` to refuse.

    Raises:
        UserError: A text is no number.
    """
    if value is None:
        return None
    values = value if isinstance(value, list | tuple) else [value]
    try:
        return tuple(int(each) if isinstance(each, str) else each for each in values)
    except ValueError as error:
        raise UserError(f"--{name} is a number, or several with commas between. Received: {value}") from error


@functools.cache
def _types_of(config: type) -> dict[str, tuple]:
    """Setting -> the types that it may have."""
    hints = typing.get_type_hints(config)
    single = {name: typing.get_origin(hint) is tuple or not typing.get_args(hint) for name, hint in hints.items()}
    return {name: (hint,) if single[name] else typing.get_args(hint) for name, hint in hints.items()}


def _check_type(name: str, value: Any, types: tuple) -> None:
    if not any(_is_of(value, kind) for kind in types):
        words = " or ".join(_WORDS[kind] for kind in types)
        raise UserError(f"--{name} must be {words}. Received: {value!r:.100}")


def _is_of(value: Any, kind: Any) -> bool:
    """Whether a value is of a type. Whole numbers are numbers, true and false are none."""
    if typing.get_origin(kind) is tuple:
        return isinstance(value, tuple) and all(_is_of(each, typing.get_args(kind)[0]) for each in value)
    if kind is float:
        return _is_of(value, int) or (type(value) is float and math.isfinite(value))
    if kind is int:
        return type(value) is int and abs(value) < _LARGEST
    return isinstance(value, kind)
