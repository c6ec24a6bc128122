"""Publishing events again on request."""
