"""Core: values and decisions, as tables and properties. Nothing here needs a socket, a file or a clock."""
