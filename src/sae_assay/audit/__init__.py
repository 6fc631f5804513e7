"""Checking what a study recorded: trace a number to its bytes, verify, bundle. Nothing but the command line imports this."""
