"""Several sites in front of a newcomer: edges, NATS, a hub, machines; what breaks between them, and heals."""
