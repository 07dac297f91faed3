"""The command line: one module a verb, results on stdout, progress and messages on stderr."""
