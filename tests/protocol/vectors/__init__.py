"""Test vectors of the wire, for zmesh and for implementations in other languages."""
