"""What can be done with each kind of thing; a module is imported when its group is used."""
