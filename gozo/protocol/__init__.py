"""The wire protocol between clients and gozo. Pure."""
