"""The two ways a run ends badly, each with one clear line and an exit status."""

LONGEST = 2000
"""Characters of a message; of a longer one, a part from its middle is left out."""


class UserError(ValueError):
    """Bad input. The message reads `<where>: expected <what>, got <value>. <what to do>.`

    The command line prints it as one line and exits with status 2.

    Example:
      >>> print(UserError("seed: expected a number,\\n got 'x'."))
      seed: expected a number, got 'x'.
    """

    exit_status = 2

    def __init__(self, message: object = ""):
        super().__init__(one_line(str(message)))


class RunError(RuntimeError):
    """A run that could not go on (a full disk, a non-finite theta). Exit status 1."""

    exit_status = 1

    def __init__(self, message: object = ""):
        super().__init__(one_line(str(message)))


def one_line(text: str) -> str:
    """The text on one line, whatever was put into it: a file's name, a library's message."""
    line = " ".join(text.split())
    if len(line) <= LONGEST:
        return line
    return f"{line[: LONGEST * 3 // 4]} ... {line[-LONGEST // 5 :]}"
