"""The exceptions that are meant for the person at the keyboard."""


class UserError(Exception):
    """Something the user can put right.

    The message is one line: the rule, what was received, the way out. Commands print it on stderr and exit with
    `status`.
    """

    status = 2


class HostLostError(UserError):
    """Another host of the cluster has gone. The same commands, on all hosts, may well succeed."""

    status = 75  # EX_TEMPFAIL of sysexits.h, by which schedulers know that it is worth another try
