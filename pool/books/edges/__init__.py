"""Who serves miners at other sites: what each may hand out and count, who it is now, and its journal here."""
