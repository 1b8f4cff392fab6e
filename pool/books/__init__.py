"""What is on disk: the database, its one writer, the journal, and what is booked from it."""
