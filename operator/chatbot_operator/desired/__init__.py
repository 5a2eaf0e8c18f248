"""One pure builder per kind of child object. No I/O, no client, no clock."""
