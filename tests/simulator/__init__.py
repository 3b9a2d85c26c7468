"""The simulated world: a model of the store, and whole meshes on a fake clock, network and disk, from one seed."""
