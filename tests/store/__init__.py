"""The SQLite store: against its model, under failing disks, killed processes and power cuts."""
