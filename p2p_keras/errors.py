"""The one exception that is meant for the person at the keyboard."""


class UserError(Exception):
    """Something the user can put right.

    The message is one line: the rule, what was received, the way out. Commands print it on stderr and exit with status
    2.
    """
