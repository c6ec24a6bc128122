"""The sealer's side of witnesses: asks them to cosign each checkpoint, and keeps what they sign.

``policy`` reads which witnesses there are, ``client`` speaks with one, ``kept`` is what the
database has of it, ``asking`` does it all beside the sealing, which waits for none of them.
"""
