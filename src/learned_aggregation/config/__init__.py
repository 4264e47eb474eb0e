"""Settings: the table, their checks, flags and files; `resolve` makes a Config of a command line."""
