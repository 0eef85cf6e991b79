"""The program `modeldrop`: the command line of the library `modeldrop`."""
