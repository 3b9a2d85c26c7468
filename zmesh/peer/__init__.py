"""The shell around the protocol: the public Peer and Agent, the ZeroMQ link, the SQLite store."""
