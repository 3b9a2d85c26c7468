"""Who a device is and whom it trusts: keys, membership, invitations, pairing and the door where strangers knock."""
