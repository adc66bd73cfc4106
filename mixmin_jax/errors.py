"""The one exception for input that a user can correct."""


class InputError(ValueError):
    """Bad input, found before compute is spent.

    The message names what is wrong (which source, row, file, line or option) and what to do about it.
    Command lines print it as one line and exit with status 2.
    """
