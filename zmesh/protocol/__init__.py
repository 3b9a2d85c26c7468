"""The delivery protocol, sans-I/O: wire codec, bounds, streams, links, inbox and the core that joins them.

Nothing here may import a socket, an event loop, a database, a clock or a source of randomness: time and entropy are
arguments, and everything the core wants done comes out as effects.
"""
