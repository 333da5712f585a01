"""What can go wrong and be put right by the user. Knows nothing else."""


class CharlstmError(Exception):
    """Say in one line what is wrong, where, and the way out.

    The command line prints it without a traceback and exits with 1. A bug is any other exception.
    """
