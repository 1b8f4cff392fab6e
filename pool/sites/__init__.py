"""Who serves miners at another site: how it begins, with the hub and without it, and the way between both."""
