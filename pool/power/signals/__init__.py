"""Who may ask for an event beside a person: files, prices, webhooks, OpenADR."""
