"""Who is calling: credentials, tickets, and what they allow."""
