"""The proofs: a log of every event for each tenant, which nobody can alter unseen, us included.

``sealer`` enters events and signs checkpoints, ``logs`` keeps the trees, ``entries`` makes of
events what is published of them, ``keys`` signs and verifies, ``outside`` hands checkpoints out.
The formats are in ``nbledger_domain.transparency``.
"""
