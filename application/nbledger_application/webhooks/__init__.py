"""Delivering events to webhooks: who gets what, attempts, and their log."""
