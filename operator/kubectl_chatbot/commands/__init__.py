"""One module for each command: reads by `gather`, has the pure parts decide, prints by `screen`. Returns the exit code."""
