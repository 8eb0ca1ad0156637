"""Clients other than Java's, librdkafka's and kcat: what each does as an administrator and with records."""
