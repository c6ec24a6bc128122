"""Small measures of a process."""
