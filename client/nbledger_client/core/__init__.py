"""How requests are made, sent and repeated: written once, for both clients."""
