"""Sections of the settings that are long and stand by themselves."""
