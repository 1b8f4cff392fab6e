"""Reports as documents, and documents as text, CSV, JSON, HTML and PDF."""
