"""Building read models anew beside those in use, to take their place or to be compared."""
