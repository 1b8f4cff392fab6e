"""Who is served and in what order, where there is not enough for everybody: places and turns."""
