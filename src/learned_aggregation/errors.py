"""The two ways a run ends badly, each with one clear line and an exit status."""


class UserError(ValueError):
    """Bad input. The message reads `<where>: expected <what>, got <value>. <what to do>.`

    The command line prints it as one line and exits with status 2.
    """

    exit_status = 2


class RunError(RuntimeError):
    """A run that could not go on (a full disk, a non-finite theta). Exit status 1."""

    exit_status = 1
