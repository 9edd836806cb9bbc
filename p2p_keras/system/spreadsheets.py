"""Names in tables that people open with a spreadsheet program, which takes some of them for formulas."""

_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # how one begins
_ACTIVE = "(|![{"  # without one of these it calls no function or program, and fetches nothing


def as_cell(name: str) -> str:
    """The name, or, if a spreadsheet program would act upon it, the same as a path: `./=HYPERLINK(...).png`.

    Those that merely begin with "-", as many of Dayton's do, stay as they are.
    """
    is_active = name.startswith(_FORMULA) and any(character in name for character in _ACTIVE)
    return f"./{name}" if is_active else name


def from_cell(cell: str) -> str:
    """The name of which `as_cell` made this."""
    return cell.removeprefix("./")
