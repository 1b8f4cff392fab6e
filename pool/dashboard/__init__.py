"""What a page shows all the time: the site map, what happens, one machine; once for all who look."""
