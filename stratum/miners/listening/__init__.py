"""Where miners come in: TCP, TLS, and load balancers that pass them on."""
