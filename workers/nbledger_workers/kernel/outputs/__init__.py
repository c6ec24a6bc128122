"""Outputs of a cell, gathered in bounded memory."""
