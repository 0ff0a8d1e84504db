"""Who is told at once, and how? Mail over TLS and a webhook; neither carries anything that identifies a patient."""
