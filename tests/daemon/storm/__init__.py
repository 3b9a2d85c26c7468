"""The storm on the daemon: programs that send and receive through it, and a nemesis that kills them and the daemon."""
