"""One thin file a command of ``sbbatch``."""
