"""The witness: cosigns checkpoints of logs that others run, without a database and a broker.

``memory`` keeps what was cosigned, ``cosigner`` decides, ``server`` speaks HTTP. It imports nothing
of the sealer's, so that it installs from few packages (requirements/witness.txt).
"""
