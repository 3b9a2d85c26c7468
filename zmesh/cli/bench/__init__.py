"""`zmesh bench`: what this machine's mesh does, measured through the public API between real processes.

The command (`command`) starts parts (`parts`), processes of their own that play a peer, a bare socket or a client of
the rival, and tells them line by line what to do. It must measure nothing inside its own process, assert nothing about
speed, and leave neither processes nor files behind.
"""
