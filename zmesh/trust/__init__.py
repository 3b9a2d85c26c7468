"""Who a device is: its key today; certificates, pairing, grants and revocation later. Imports no socket and no loop."""

from zmesh.trust.device import Device

__all__ = ["Device"]
