"""The daemon, its clients, and how they find each other."""
