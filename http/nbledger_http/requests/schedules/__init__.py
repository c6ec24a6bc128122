"""What requests say of schedules, checked whole."""
