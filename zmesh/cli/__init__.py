"""The `zmesh` command: thin commands over what the layers below do. Nothing below may import it."""
