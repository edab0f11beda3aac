"""How a command ends when it does not end well; a signal ends it with 128 and its number, as in the shell."""

USER_ERROR = 2
NUMERICAL_ERROR = 3  # so that a tuner does not count the run as a result
INTERRUPTED = 130
KILLED = 137
