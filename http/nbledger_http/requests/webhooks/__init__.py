"""What requests for webhooks ask for."""
