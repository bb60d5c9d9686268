"""The exit codes of `s2s`; 0 means success."""

FAILED = 1
"""The work failed, such as a damaged run folder or a full disk."""

WRONG_USAGE = 2
"""The caller can fix it: arguments, config or input."""

SIGNALED = 128
"""Added to the signal's number, as shells do: 130 for Ctrl-C, 143 for SIGTERM, 129 for SIGHUP."""
