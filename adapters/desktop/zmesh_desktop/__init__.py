"""The desktop adapter: makes a desktop application an agent on the mesh.

Nothing is here yet. This package is for reading and typing into windows on behalf of an agent that was granted it; it
will use the public names of ``zmesh`` alone and must never reach into zmesh's inner packages.
"""
