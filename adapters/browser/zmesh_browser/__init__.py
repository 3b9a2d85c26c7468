"""The browser adapter: makes a chat in a browser tab an agent on the mesh.

Nothing is here yet. This package is for the native messaging host that the browser extension talks to; it will use the
public names of ``zmesh`` alone and must never reach into zmesh's inner packages.
"""
