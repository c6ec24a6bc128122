"""Checkpoints out of the house: whoever holds one sees later that the log was altered.

``deliveries`` knows what each outlet is still to get, ``couriers`` bring it there; the outlets are
``topic`` on Kafka, ``copies`` in a folder or bucket, and ``timestamps`` of an authority.
"""
