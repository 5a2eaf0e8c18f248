"""One module for each command: reads by `gather`, has the pure parts decide, prints by `screen`.

It returns the exit code.
"""
