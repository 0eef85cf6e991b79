"""modeldropd: the service that stores what is dropped into the staging folder.

The engine of the library decides everything. Here is what surrounds it: the kernel's events, the
signals, systemd, the logs.
"""
