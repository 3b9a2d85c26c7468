"""One peer per machine for programs that come and go: its local socket, its clients, and how it is started."""
