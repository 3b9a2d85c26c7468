"""Ring 5: machines on a network, each a network namespace with a home of its own."""
