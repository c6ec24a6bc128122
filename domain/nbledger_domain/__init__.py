"""The domain of nbledger: notebooks and their executions, as event-sourced aggregates.

Everything here is pure: no input or output, no clock, no random numbers. Times and
identifiers are passed in, so that replaying the same events always gives the same state.
"""
